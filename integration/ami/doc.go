// Package ami boots the machine images of deploy/ami in QEMU, by software emulation alone, and
// checks that they work: the guest takes itself for an EC2 instance, gets its identity from a
// metadata service, and does a real job from a broker on the host.
//
// "make ami-test" builds the image and sets CLOUDMASTER_AMI, the image's name, and
// CLOUDMASTER_AMI_DIR, the directory into which disk.sh has written it. Without these variables the
// tests are skipped.
package ami
