#!/usr/bin/env bash
# Changes the Debian system in the directory $1 so that it boots in QEMU: its disk is a virtio
# disk, and its network is configured by DHCP. mmdebstrap runs this script when it has installed
# the packages.
set -euo pipefail
root=$1

echo MODULES=list >"$root/etc/initramfs-tools/conf.d/cloudmaster"
printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u

printf '%s\n' '[Match]' 'Name=en* eth*' '[Network]' DHCP=ipv4 IPv6AcceptRA=no \
  >"$root/etc/systemd/network/90-dhcp.network"
chroot "$root" systemctl enable systemd-networkd.service
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"

# These came from the machine on which the base was made.
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
