#!/usr/bin/env bash
# Makes a Debian system, the directory $1, one that boots in QEMU: its disk is virtio, its
# network comes by DHCP. mmdebstrap runs it when the packages are there.
set -euo pipefail
root=$1

echo MODULES=list >"$root/etc/initramfs-tools/conf.d/cloudmaster"
printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u

printf '%s\n' '[Match]' 'Name=en* eth*' '[Network]' DHCP=ipv4 IPv6AcceptRA=no >"$root/etc/systemd/network/90-dhcp.network"
chroot "$root" systemctl enable systemd-networkd.service
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"

# Those of the machine that it is made on.
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
