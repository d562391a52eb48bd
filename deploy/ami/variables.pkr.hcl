# make ami sets what has no default here.

variable "image" {
  type        = string
  description = "The directory under images/ that says what to make, and part of the image's name."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*$", var.image))
    error_message = "The image is a word of small letters, digits and dashes: primes."
  }
}

variable "program" {
  type        = string
  description = "The program of the image; the AMI is tagged with it."
}

variable "stage" {
  type        = string
  description = "A copy of images/IMAGE with the program in it, built for the architecture."
}

variable "arch" {
  type    = string
  default = "amd64"
  validation {
    condition     = contains(["amd64", "arm64"], var.arch)
    error_message = "The architecture is amd64 or arm64."
  }
}

variable "image_version" {
  type        = string
  description = "Part of the image's name; each build of an image needs one of its own."
}

variable "revision" {
  type        = string
  description = "The git revision that the program was built from."
}

variable "region" {
  type        = string
  default     = ""
  description = "Where the AMI is made; empty is AWS_REGION, or the profile's."
}

variable "base_owner" {
  type        = string
  default     = "136693071363"
  description = "Whose base image; the default is Debian."
}

variable "base_name" {
  type        = string
  default     = ""
  description = "The base image's name, of which the newest is taken; empty is Debian 12 for the architecture."
}

variable "instance_type" {
  type        = string
  default     = ""
  description = "What the build runs on; empty is the smallest that does it well."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Where the build runs; empty is the default VPC."
}

variable "qemu_base" {
  type        = string
  default     = "debian-12-genericcloud.qcow2"
  description = "File or URL of a Debian cloud image, for the QEMU image."
}

variable "qemu_base_checksum" {
  type        = string
  default     = "none"
  description = "Its checksum, as sha512:…"
}

variable "qemu_accelerator" {
  type    = string
  default = "kvm"
}

variable "qemu_args" {
  type        = list(list(string))
  default     = []
  description = "More arguments for QEMU."
}

variable "qemu_output" {
  type        = string
  default     = ""
  description = "Where the QEMU image comes; empty is bin/ami/qemu/NAME, from where packer runs."
}
