// Package ami boots the machine images of deploy/ami in QEMU, by plain software emulation, and
// sees them work: the guest takes itself for an EC2 instance, asks a metadata service who it
// is, and does a real job for a broker on the host.
//
// make ami-test builds the image and sets CLOUDMASTER_AMI, the image's name, and
// CLOUDMASTER_AMI_DIR, where disk.sh has put it. Without them the tests are skipped.
package ami
