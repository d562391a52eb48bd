#!/bin/bash
# A service of your own, as small as possible: it reads its user data, and reports to a NATS
# backend that it is idle, until it is stopped. Bash can speak TCP, so nothing needs to be
# installed.
set -euo pipefail

imds() { # METHOD PATH HEADER: makes one request to the instance's metadata service
  exec 3<>/dev/tcp/169.254.169.254/80
  printf '%s /latest/%s HTTP/1.0\r\nHost: 169.254.169.254\r\n%s\r\n\r\n' "$1" "$2" "$3" >&3
  sed '1,/^\r$/d' <&3
}
token=X-aws-ec2-metadata-token
token+=": $(imds PUT api/token $token-ttl-seconds:\ 60)"
id=$(imds GET meta-data/instance-id "$token")
data=$(imds GET user-data "$token")
IFS=: read -r host port < <(sed -n 's,^backend: nats://,,p' <<<"$data")
queue=$(sed -n 's,.*status: \([a-z0-9-]*\).*,\1,p' <<<"$data")
[[ -n $host && -n $queue ]] || {
  echo "worker.sh: instance $id: no backend or status queue in the user data" >&2
  exit 1
}

for ((n = 1; ; n++)); do
  time=$(date -u +%FT%TZ)
  status="{\"type\":\"status\",\"instance_id\":\"$id\",\"state\":\"active\",\"load_estimate\":0"
  status+=",\"timestamp\":\"$time\",\"sequence\":$n}"
  exec 4<>"/dev/tcp/$host/${port:-4222}"
  printf 'CONNECT {"verbose":false}\r\nPUB cloudmaster.queue.%s %d\r\n%s\r\nPING\r\n' \
    "$queue" "${#status}" "$status" >&4
  sed '/^PONG/q' <&4 >/dev/null # the answer to PING: the broker has read the message, too
  sleep 30
done
