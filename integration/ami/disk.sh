#!/usr/bin/env bash
# Makes what the boot test boots: a Debian base, in which it runs the recipe, and a disk image of
# the result. It needs root, mmdebstrap, e2fsprogs and, for the tests, QEMU. The base is kept for
# the next time.
#
#   disk.sh RECIPE STAGE OUT
#
# RECIPE is deploy/ami; STAGE is a directory for provision.sh. In OUT it writes disk.img, vmlinuz
# and initrd.img; base.list and image.list, the files before and after the recipe; and
# security.txt, what systemd thinks of the unit's confinement. DEBIAN_MIRROR names another mirror
# than Debian's own.
set -euo pipefail

finish=$(cd "$(dirname "$0")" && pwd)/finish-base.sh
readonly finish suite=bookworm size=1500M
# The packages of Debian's image for EC2 that the boot test needs.
packages=systemd,systemd-sysv,dbus,udev,cloud-init,linux-image-cloud-amd64
packages+=,openssh-server,iproute2,e2fsprogs,ca-certificates
readonly packages

fail() { echo "disk.sh: $*" >&2; exit 1; }

# base prints the path of the base's archive, and makes the archive if it does not exist.
base() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/cloudmaster key archive
  key=$(echo "$suite $packages ${DEBIAN_MIRROR-}" | cat - "$finish" | sha256sum)
  archive=$cache/ami-base-${key:0:12}.tar
  if [[ ! -s $archive ]]; then
    mkdir -p "$cache"
    echo "disk.sh: making the base, once" >&2
    mmdebstrap --quiet --variant=apt --format=tar --include="$packages" --customize-hook="$finish" \
      "$suite" "$archive.new.$$" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >&2
    mv "$archive.new.$$" "$archive"
  fi
  echo "$archive"
}

files() { (cd "$root" && find . -xdev -type f -printf '%s %P\n' | LC_ALL=C sort -k2); }

# provision runs the recipe as Packer does: from a directory in /tmp, which the recipe removes.
provision() {
  mkdir -p "$root/tmp/cloudmaster"
  cp -R "$recipe/provision.sh" "$recipe/files" "$root/tmp/cloudmaster/"
  cp -R "$stage" "$root/tmp/cloudmaster/image"
  mount -t proc proc "$root/proc"
  local status=0
  chroot "$root" /tmp/cloudmaster/provision.sh /tmp/cloudmaster/image >&2 || status=$?
  umount "$root/proc"
  return "$status"
}

cleanup() {
  if mountpoint -q "$root/proc"; then umount "$root/proc"; fi
  rm -rf --one-file-system "$root"
}

main() {
  (($# == 3)) || fail "usage: disk.sh RECIPE STAGE OUT"
  recipe=$1 stage=$2 out=$3
  ((EUID == 0)) || fail "must run as root, to make a Debian system"
  local tool
  for tool in mmdebstrap mke2fs debugfs qemu-system-x86_64 journalctl; do
    command -v "$tool" >/dev/null ||
      fail "$tool is missing: apt-get install mmdebstrap e2fsprogs qemu-system-x86 systemd"
  done
  local archive
  archive=$(base)
  mkdir -p "$out"
  root=$(mktemp -d)
  trap cleanup EXIT
  chmod 0755 "$root"
  tar -xf "$archive" -C "$root"
  files >"$out/base.list"
  provision
  files >"$out/image.list"
  cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
  cp "$root"/boot/initrd.img-* "$out/initrd.img"
  chroot "$root" systemd-analyze security --no-pager --offline=yes \
    /etc/systemd/system/cloudmaster.service >"$out/security.txt"
  rm -f "$out/disk.img"
  mke2fs -q -t ext4 -d "$root" "$out/disk.img" "$size"
}

main "$@"
