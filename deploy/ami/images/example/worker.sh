#!/bin/bash
# A service of one's own, as small as it gets: it reads its user data, and reports that it is
# idle to a NATS backend until it is stopped. Bash speaks TCP; there is nothing to install.
set -euo pipefail

imds() { # METHOD PATH HEADER: one request to the instance's metadata
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
[[ -n $host && -n $queue ]] || { echo "worker.sh: instance $id: no backend or status queue in the user data" >&2; exit 1; }

for ((n = 1; ; n++)); do
  status="{\"type\":\"status\",\"instance_id\":\"$id\",\"state\":\"active\",\"load_estimate\":0,\"timestamp\":\"$(date -u +%FT%TZ)\",\"sequence\":$n}"
  exec 4<>"/dev/tcp/$host/${port:-4222}"
  printf 'CONNECT {"verbose":false}\r\nPUB cloudmaster.queue.%s %d\r\n%s\r\nPING\r\n' "$queue" "${#status}" "$status" >&4
  sed '/^PONG/q' <&4 >/dev/null # the broker has read what came before
  sleep 30
done
