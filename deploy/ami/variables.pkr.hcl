# "make ami" gives a value to every variable that has no default here.

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
  description = "The git revision from which the program was built."
}

variable "region" {
  type        = string
  default     = ""
  description = "Where the AMI is made; if empty, in AWS_REGION or the profile's region."
}

variable "base_owner" {
  type        = string
  default     = "136693071363"
  description = "The account that owns the base image; the default is Debian's."
}

variable "base_name" {
  type        = string
  default     = ""
  description = "The base image's name, of which the newest is used; if empty, Debian 12 for the architecture."
}

variable "instance_type" {
  type        = string
  default     = ""
  description = "The type of the instance that runs the build; if empty, the smallest on which it runs well."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "The subnet in which the build runs; if empty, one of the default VPC."
}

variable "ssh_cidrs" {
  type        = list(string)
  default     = []
  description = "From where SSH reaches the build; if empty, from this machine's public address alone."
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
  description = "Where the QEMU image is written; if empty, bin/ami/qemu/NAME below the current directory."
}
