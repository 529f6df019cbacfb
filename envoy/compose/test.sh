#!/usr/bin/env bash
# Starts the stack under a project name of its own, with secrets that nothing else has; goes through it, also while
# its token server is away; and removes it again. Needs a Docker engine with Compose.
set -euo pipefail
cd "$(dirname "$0")"

say() { echo "compose-test: $*"; }
fail() { say "$*" >&2; exit 1; }
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
# A command, for so many seconds at most; without a limit where there is no program for that (macOS).
within() { if command -v timeout > /dev/null; then timeout --foreground "$@"; else shift; "$@"; fi; }

command -v docker > /dev/null || fail "there is no docker here"
within 30 docker info > /dev/null 2>&1 || fail "no Docker engine answers"
if docker compose version > /dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose > /dev/null; then
  compose=(docker-compose)
else
  fail "there is neither 'docker compose' nor docker-compose here"
fi

project=mcp-upstream-auth-test-$$
compose+=(--project-name "$project" --file compose.yaml)
load=$project-load
envoy=$(sed -n 's/^ *image: \(envoyproxy\/.*\)/\1/p' compose.yaml)
folder=$(mktemp -d)
stand_in=

GITHUB_TOKEN=$(random)
TOKEN_SIGNING_KEY=$(random)
client_secret=$(random)
CLIENT_SECRET_FILE=$folder/client-secret
(umask 077 && echo "$client_secret" > "$CLIENT_SECRET_FILE")
# The token server stays away until the gateway asks it for the next token: after 70 to 80 of these seconds, so that it has
# 20 to be back. The load goes on until the first token has expired.
TOKEN_LIFETIME=100
load_seconds=115
GATEWAY_PORT=0 # a free one
export GITHUB_TOKEN TOKEN_SIGNING_KEY CLIENT_SECRET_FILE TOKEN_LIFETIME GATEWAY_PORT

tear_down() {
  status=$?
  trap - EXIT
  set +e
  if [ "$status" != 0 ]; then
    docker logs "$load" 2>&1 | tail -n 20
    "${compose[@]}" logs --no-color 2>&1 | grep -v '/mcp 200 ' | tail -n 60
  fi
  docker rm --force "$load" > /dev/null 2>&1
  within 120 "${compose[@]}" down --volumes --timeout 5 > "$folder/down" 2>&1 || { cat "$folder/down" >&2; status=1; }
  # Nobody shall take it for the official one later.
  if [ -n "$stand_in" ]; then docker image rm "$envoy" > /dev/null; fi
  rm -rf "$folder"
  if [ "$status" = 0 ]; then say "passed; the stack is gone"; else say "FAILED" >&2; fi
  exit "$status"
}
trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

./build.sh
if ! docker image inspect "$envoy" > /dev/null 2>&1 && ! within 300 docker pull --quiet "$envoy"; then
  say "$envoy cannot be pulled here"
  ./stand-in.sh "$envoy"
  stand_in=yes
fi
if [ -n "$(docker image inspect --format '{{index .Config.Labels "mcp-upstream-auth.stand-in"}}' "$envoy")" ]; then
  say "this run is with a STAND-IN for $envoy, not with the official image"
fi

# The name of a service's container.
container() { "${compose[@]}" ps -q "$1"; }

wait_until_healthy() {
  local container state=
  for container in "$@"; do
    for _ in $(seq 60); do
      state=$(docker inspect --format '{{.State.Health.Status}}' "$container")
      [ "$state" != healthy ] || continue 2
      sleep 1
    done
    fail "$(docker inspect --format '{{.Name}}' "$container") is $state after a minute"
  done
}

# The test is in the images of the servers, and runs where the gateway is, on its loopback.
client() { within 150 docker run --rm --network "container:$gateway" mcp-upstream-auth/mcp-server "$@"; }

say "start"
within 300 "${compose[@]}" up --build --detach > "$folder/up" 2>&1 || { cat "$folder/up" >&2; fail "the stack does not start"; }
gateway=$(container gateway)
tokens=$(container token-server)
wait_until_healthy "$(container mcp-server)" "$tokens" "$gateway"
say "healthy"

docker run --detach --name "$load" --network "container:$gateway" mcp-upstream-auth/mcp-server load "$load_seconds" > /dev/null
for _ in $(seq 30); do
  docker logs "$load" 2>&1 | grep -q '^load: on$' && break
  sleep 1
done
docker logs "$load" 2>&1 | grep -q '^load: on$' || fail "no request was answered"
granted=$(client fetches granted)
within 30 docker stop --time 10 "$tokens" > /dev/null
say "the token server is away, under load; tokens granted until now: $granted"
unavailable=0
for _ in $(seq "$TOKEN_LIFETIME"); do
  unavailable=$(client fetches unavailable)
  [ "$unavailable" = 0 ] || break
  sleep 1
done
[ "$unavailable" -gt 0 ] || fail "the gateway did not ask for a token while the token server was away"
docker start "$tokens" > /dev/null
wait_until_healthy "$tokens"
[ "$(docker inspect --format '{{.State.Running}}' "$load")" = true ] || fail "the load ended too early"
say "the token server is back; failed token requests: $unavailable or more"

client sessions | sed 's/^/compose-test: session: /'

[ "$(within 120 docker wait "$load")" = 0 ] || fail "requests failed under load"
say "$(docker logs "$load" 2>&1 | tail -n 1)"
granted_since=$(($(client fetches granted) - granted))
[ "$granted_since" -gt 0 ] || fail "no token was fetched from the token server after its restart"
say "tokens granted after the restart: $granted_since"

# What a caller outside meets: the filter refuses what no server is known for.
IFS=: read -r host port <<< "$(docker port "$gateway" 10000/tcp | head -n 1)"
exec 3<> "/dev/tcp/$host/$port"
printf 'GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n' >&3
answer=$(within 30 cat <&3)
exec 3>&-
[[ $answer == 'HTTP/1.1 503 '*'"unknown_server"'* ]] || fail "the published port answers: $answer"
say "the published port answers"

"${compose[@]}" logs --no-color > "$folder/logs" 2>&1
grep -q 'POST /fetched/mcp 200 fetched' "$folder/logs" || fail "there is no access log"
for secret in "$GITHUB_TOKEN" "$client_secret" "$TOKEN_SIGNING_KEY"; do
  ! grep -q "$secret" "$folder/logs" || fail "a secret is in the logs"
done
