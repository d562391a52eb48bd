#!/usr/bin/env bash
# Turns a Debian system into a CloudMaster image. The AMI, the QEMU image and the boot test all use
# this recipe. It runs as root inside the system: provision.sh DIR. README.md says what DIR
# contains. Running it twice is harmless.
set -euo pipefail
umask 022

here=$(cd "$(dirname "$0")" && pwd)
readonly here unit=/etc/systemd/system/cloudmaster.service lib=/usr/lib/cloudmaster

fail() { echo "provision.sh: $*" >&2; exit 1; }

# read_image reads the settings from image.env, and gives defaults to those that it leaves out.
# shellcheck disable=SC2034 # install_service reads them by name
read_image() {
  PROGRAM='' DESCRIPTION='' ARGS='' CAPABILITIES='' STOP_SECONDS=30 MEMORY_MAX=75%
  [[ -f $dir/image.env ]] || fail "$dir has no image.env; copy one from images/example"
  # shellcheck source=/dev/null
  source "$dir/image.env"
  [[ -n $PROGRAM ]] || fail "$dir/image.env does not set PROGRAM, the file to run"
  [[ -f $dir/$PROGRAM ]] || fail "$dir has no $PROGRAM, which its image.env names as PROGRAM; build it first"
  [[ $STOP_SECONDS =~ ^[1-9][0-9]*$ ]] ||
    fail "$dir/image.env: STOP_SECONDS is \"$STOP_SECONDS\", not a number of seconds"
  # In a user namespace of its own, the service's capabilities would have no effect outside of that
  # namespace.
  PRIVATE_USERS=yes
  if [[ -n $CAPABILITIES ]]; then PRIVATE_USERS=no; fi
  DESCRIPTION=${DESCRIPTION:-CloudMaster $PROGRAM}
}

check_system() {
  ((EUID == 0)) || fail "must run as root, inside the system that becomes the image"
  command -v systemctl >/dev/null || fail "this system has no systemd; start from a Debian cloud image"
  command -v cloud-init >/dev/null || fail "this system has no cloud-init; start from a Debian cloud image"
  [[ -s /etc/ssl/certs/ca-certificates.crt ]] || fail "this system trusts no certificates; install ca-certificates"
}

install_service() {
  install -D -m 0755 "$dir/$PROGRAM" "$lib/$PROGRAM"
  local text name
  text=$(<"$here/files/cloudmaster.service")
  for name in PROGRAM DESCRIPTION ARGS CAPABILITIES STOP_SECONDS MEMORY_MAX PRIVATE_USERS; do
    text=${text//"@$name@"/"${!name}"}
  done
  install -D -m 0644 /dev/stdin "$unit" <<<"$text"
  if (($(systemd_version) >= 254)); then
    install -D -m 0644 "$here/files/backoff.conf" "$unit.d/backoff.conf"
  fi
  if [[ -d $dir/root ]]; then
    cp -R --no-preserve=ownership "$dir/root/." /
  fi
  systemctl enable --quiet cloudmaster.service
}

systemd_version() { systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p'; }

install_settings() {
  install -D -m 0644 "$here/files/cloud-init.cfg" /etc/cloud/cloud.cfg.d/95_cloudmaster.cfg
  install -D -m 0644 "$here/files/journald.conf" /etc/systemd/journald.conf.d/cloudmaster.conf
}

# settle_down stops programs that run from writing to the disk. When the machine of the build shuts
# down, it would otherwise save its journal and its random seed, and every instance would get a
# copy. In a chroot nothing runs.
settle_down() {
  [[ -d /run/systemd/system ]] || return 0
  journalctl --quiet --relinquish-var
  systemctl stop systemd-random-seed.service
}

# forget removes what belongs to the machine on which the image was built, or to its build.
forget() {
  # Identity: each instance makes its own keys, ids and seed.
  rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id /var/lib/systemd/{random-seed,credential.secret}
  : >/etc/machine-id
  # The users who could log in for the build, and what cloud-init knew of the build machine and its
  # network.
  rm -rf /root/.ssh /home/*/.ssh /root/.*_history /home/*/.*_history /var/lib/cloud/*
  rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* /etc/systemd/network/10-cloud-init-* \
    /etc/ssh/sshd_config.d/50-cloud-init.conf /etc/sudoers.d/90-cloud-init-users /var/lib/dhcp/*.leases
  # Leftovers of packages, and logs.
  rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
    /var/cache/debconf/*-old /var/lib/dpkg/*-old
  find /var/log -type f -delete
  rm -rf /var/log/journal
  find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' -exec rm -rf {} +
}

main() {
  (($# == 1)) || fail "usage: provision.sh DIR"
  [[ -d $1 ]] || fail "there is no directory $1; name one such as images/primes, with the program in it"
  dir=$(cd "$1" && pwd)
  check_system
  read_image
  install_service
  install_settings
  settle_down
  forget
  echo "provision.sh: this is a $PROGRAM image now"
}

# main and exit are on one line, so that bash has read both: forget may have removed this file.
main "$@"; exit
