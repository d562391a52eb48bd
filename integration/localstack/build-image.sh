#!/usr/bin/env bash
# Builds localhost/localstack-pypi:4.14.0 on a host that reaches PyPI and Debian, but no container
# registry: a Debian root file system, Python, and the packages of requirements.txt. A host that
# can pull images needs localstack/localstack:4.14.0 instead.
#
#   FORCE=1            build even if the image exists
#   DEBIAN_MIRROR=URL  get Debian from there (default: the host's mirror, or else debootstrap's)
#
# The build uses the host's proxies, certificates, pip and apt settings, but they do not stay in
# the image.
set -euo pipefail

image=localhost/localstack-pypi:4.14.0
suite=trixie # LocalStack 4.14 needs Python 3.13
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { echo "build-image: $*"; }
die() { say "$*" >&2; exit 1; }

command -v docker >/dev/null || die "docker is missing: apt-get install docker.io"
docker version >/dev/null 2>&1 ||
  die "no Docker engine answers: start one (as root: systemctl start docker, or dockerd &) or join its group"
if [[ ${FORCE:-} != 1 ]] && docker image inspect "$image" >/dev/null 2>&1; then
  say "$image exists already (FORCE=1 builds it again)"
  exit 0
fi
[[ $EUID == 0 ]] || die "debootstrap and chroot need root: run this with sudo -E"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
[[ -e /usr/share/debootstrap/scripts/$suite ]] || die "debootstrap does not know Debian $suite: install a newer one"

tmp=$(mktemp -d)
root=$tmp/root

# cleanup unmounts first, because an interrupted debootstrap can leave /proc mounted.
cleanup() {
  awk -v dir="$tmp/" 'index($2, dir) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount
  rm -rf --one-file-system "$tmp"
}
trap cleanup EXIT

# host_mirror prints the mirror from which this host gets Debian, or nothing if the host is not
# Debian.
host_mirror() {
  apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Label: Debian' 2>/dev/null | sed -n 1p
}

# inside runs a command in the new root, quietly unless it fails.
inside() {
  PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    chroot "$root" "$@" >"$tmp/log" 2>&1 || { tail -n 20 "$tmp/log" >&2; die "$1 ended with an error, see above"; }
}

say "Debian $suite (${SECONDS}s)"
mirror=${DEBIAN_MIRROR:-$(host_mirror || true)}
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" ${mirror:+"$mirror"} >"$tmp/log" 2>&1 ||
  { tail -n 20 "$tmp/log" >&2; die "debootstrap ended with an error, see above"; }

say "Python (${SECONDS}s)"
apt-config dump 2>/dev/null | grep -E '^Acquire::(https?|Check-|Retries)' >"$root/etc/apt/apt.conf.d/99host" || true
inside apt-get update
inside apt-get install -y --no-install-recommends python3 python3-venv

say "LocalStack (${SECONDS}s)"
mkdir "$root/build"
cp "$here/requirements.txt" "$root/build"
for conf in /etc/pip.conf ~/.config/pip/pip.conf "${PIP_CONFIG_FILE:-}"; do
  if [[ -f $conf ]]; then # the most specific one comes last and wins
    cp "$conf" "$root/build/pip.conf"
    export PIP_CONFIG_FILE=/build/pip.conf
  fi
done
bundle=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
if [[ -f $bundle ]]; then
  cp "$bundle" "$root/build/ca.pem"
  export PIP_CERT=/build/ca.pem SSL_CERT_FILE=/build/ca.pem REQUESTS_CA_BUNDLE=/build/ca.pem
fi
inside python3 -m venv /opt/localstack
inside /opt/localstack/bin/pip install --no-cache-dir --no-deps -r /build/requirements.txt
inside /opt/localstack/bin/pip check

say "image (${SECONDS}s)"
rm -rf "$root"/{build,etc/apt/apt.conf.d/99host,etc/hostname,etc/resolv.conf}
rm -rf "$root"/{tmp,root/.cache,var/lib/apt/lists,var/cache/apt,var/log}/* "$root"/usr/share/{doc,locale,man}/*

# The services to run; queue addresses with the port that the caller used; and no calls to the
# outside: no telemetry, no download of a certificate, no DNS server.
env=(
  GATEWAY_LISTEN=0.0.0.0:4566
  'SERVICES=ec2,s3,sqs,sns,events,ssm,sts,iam,cloudwatch'
  EAGER_SERVICE_LOADING=1
  SQS_ENDPOINT_STRATEGY=dynamic
  DISABLE_EVENTS=1
  SKIP_SSL_CERT_DOWNLOAD=1
  DNS_ADDRESS=0
  API_ENDPOINT=http://127.0.0.1:9/v1
  ANALYTICS_API=http://127.0.0.1:9
)
tar --numeric-owner -C "$root" -c . | docker import \
  --change "ENV ${env[*]}" \
  --change 'EXPOSE 4566' \
  --change 'ENTRYPOINT ["/opt/localstack/bin/python", "-m", "localstack.runtime.main"]' \
  - "$image" >/dev/null
say "$image is ready (${SECONDS}s)"
