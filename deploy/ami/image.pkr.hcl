# The recipe provision.sh makes a CloudMaster image in two forms: as an AMI, and as a disk for
# QEMU. README.md explains both; "make ami" checks what is needed and then runs this.

packer {
  required_version = ">= 1.10.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.8"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = "~> 1.0"
    }
  }
}

locals {
  # The controller's configuration finds the image by this name: image: cloudmaster-primes-*
  name = "cloudmaster-${var.image}-${var.image_version}-${var.arch}"

  ec2_arch     = { amd64 = "x86_64", arm64 = "arm64" }[var.arch]
  qemu_binary  = { amd64 = "qemu-system-x86_64", arm64 = "qemu-system-aarch64" }[var.arch]
  qemu_machine = { amd64 = "pc", arm64 = "virt" }[var.arch]
  base_name    = coalesce(var.base_name, "debian-12-${var.arch}-*")

  tags = {
    "Name"                 = local.name
    "cloudmaster:image"    = var.image
    "cloudmaster:service"  = var.program
    "cloudmaster:version"  = var.image_version
    "cloudmaster:revision" = var.revision
    "cloudmaster:made-by"  = "packer"
  }

  # For the one login of the QEMU build; the finished image does not contain it.
  password = uuidv4()
}

source "amazon-ebs" "image" {
  region        = var.region
  ami_name      = local.name
  instance_type = coalesce(var.instance_type, { amd64 = "t3.small", arm64 = "t4g.small" }[var.arch])
  subnet_id     = var.subnet_id
  ssh_username  = "admin"

  # SSH is open to whoever builds, and to nobody else.
  temporary_security_group_source_public_ip = length(var.ssh_cidrs) == 0
  temporary_security_group_source_cidrs     = var.ssh_cidrs

  source_ami_filter {
    owners      = [var.base_owner]
    most_recent = true
    filters = {
      name                = local.base_name
      architecture        = local.ec2_arch
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  encrypt_boot = true
  imds_support = "v2.0"
  ena_support  = true
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  temporary_key_pair_type = "ed25519"
  shutdown_behavior       = "terminate"

  tags            = merge(local.tags, { "cloudmaster:base" = "{{ .SourceAMI }}" })
  snapshot_tags   = local.tags
  run_tags        = local.tags
  run_volume_tags = local.tags
}

source "qemu" "image" {
  vm_name          = "${local.name}.qcow2"
  output_directory = coalesce(var.qemu_output, "bin/ami/qemu/${local.name}")
  iso_url          = var.qemu_base
  iso_checksum     = var.qemu_base_checksum
  disk_image       = true
  skip_resize_disk = true
  format           = "qcow2"
  qemu_binary      = local.qemu_binary
  machine_type     = local.qemu_machine
  accelerator      = var.qemu_accelerator
  qemuargs         = var.qemu_args
  memory           = 1024
  cpus             = 2
  headless         = true
  net_device       = "virtio-net"
  disk_interface   = "virtio"

  cd_label = "cidata"
  cd_content = {
    "meta-data" = jsonencode({ "instance-id" = "build" })
    "user-data" = "#cloud-config\n${jsonencode({
      ssh_pwauth = true
      users = [{
        name              = "packer"
        plain_text_passwd = local.password
        lock_passwd       = false
        sudo              = "ALL=(ALL) NOPASSWD:ALL"
        shell             = "/bin/bash"
      }]
    })}"
  }
  ssh_username     = "packer"
  ssh_password     = local.password
  ssh_timeout      = "15m"
  shutdown_command = "sudo sh -c 'rm -f /etc/sudoers.d/build; userdel --force --remove packer; systemctl poweroff'"
}

build {
  sources = ["source.amazon-ebs.image", "source.qemu.image"]

  # provision.sh empties /tmp, so that nothing of this stays in the image.
  provisioner "shell" {
    inline = ["mkdir -p /tmp/cloudmaster/image"]
  }
  provisioner "file" {
    sources     = ["${path.root}/provision.sh", "${path.root}/files"]
    destination = "/tmp/cloudmaster/"
  }
  provisioner "file" {
    source      = "${var.stage}/"
    destination = "/tmp/cloudmaster/image/"
  }
  # provision.sh removes the build user's right to sudo, which cloud-init gave it. On EC2 it is not
  # needed any more, but under QEMU the user must still shut the machine down.
  provisioner "shell" {
    only   = ["qemu.image"]
    inline = ["echo 'packer ALL=(ALL) NOPASSWD:ALL' | sudo tee /etc/sudoers.d/build >/dev/null"]
  }
  provisioner "shell" {
    inline     = ["sudo bash /tmp/cloudmaster/provision.sh /tmp/cloudmaster/image"]
    skip_clean = true
  }
}
