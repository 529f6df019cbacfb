#!/usr/bin/env bash
# Builds what the stack is made of: the module, dist/mcp_upstream_auth.wasm, and the static binary of its servers,
# `stack` in this folder. With rustup, a C compiler and a static C library on Linux that happens here, else in a container
# of the official Rust image.
set -euo pipefail
cd "$(dirname "$0")/../.."
rust=rust:$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)

# A compiler that has no such file gives the bare name. Fedora has it in glibc-static.
has_static_libc() { [[ $(cc -print-file-name=libc.a) == /* ]]; }

if [ "$(uname -s)" = Linux ] && command -v rustup > /dev/null && command -v cc > /dev/null && has_static_libc; then
  make --no-print-directory build
  target=$(rustc --print host-tuple)
  # With a target, these flags are for the binary alone, not for what runs during the build.
  RUSTFLAGS='-C target-feature=+crt-static' \
    cargo build --locked --profile stack --target "$target" --package wasm-tests --bin stack
  install -m 755 "${CARGO_TARGET_DIR:-target}/$target/stack/stack" envoy/compose/stack
else
  echo "build.sh: no rustup, cc and libc.a here; building in $rust"
  mkdir -p dist target/container
  docker run --rm --volume "$PWD:/repository" --workdir /repository \
    --env CARGO_TARGET_DIR=/repository/target/container "$rust" bash -ec \
    "envoy/compose/build.sh; chown -R $(id -u):$(id -g) dist target/container envoy/compose/stack"
fi
