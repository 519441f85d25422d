#!/usr/bin/env bash
# usage: build.sh OUTDIR [rust|c|javascript|python …]
# Builds the example hooks as OUTDIR/LANG.wasm, with the commands of the README, and compares the C one with the component
# that is checked in. Tools are pinned, and kept in ~/.cache/docket/guests. Runs on a bare Debian machine with Rust, Node
# and Python; a language that cannot be built is an error.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n 2p "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- rust c javascript python
cache=${XDG_CACHE_HOME:-$HOME/.cache}/docket/guests
mkdir -p "$cache"
# Beside the tools, so that moving a finished one among them is one step.
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Flags that are meant for docket are not meant for its guests.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

# Prints the folder of a Python package, which is installed on first use; `--target` leaves the machine's Python alone.
python_package() {
  local folder=$cache/$1
  if [ ! -d "$folder" ]; then
    python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --target "$work/package" "$1" >&2
    mv "$work/package" "$folder"
  fi
  echo "$folder"
}

build_rust() {
  export CARGO_TARGET_DIR=$cache/rust
  if [ -n "$(find "$(rustc --print target-libdir --target wasm32-unknown-unknown)" -name 'libstd-*' 2>/dev/null)" ]; then
    cargo build --quiet --release --locked
  else
    # `rustup target add` needs static.rust-lang.org. Debian has a compiler with the sources of its library, and the Rust
    # that is here the linker for components.
    if [ ! -d /usr/lib/rustlib/src/rust/library ] || [ ! -x /usr/bin/cargo ]; then
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src >/dev/null
    fi
    local tools
    tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
    PATH=$tools:$tools/gcc-ld:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
      /usr/bin/cargo build --quiet --release --locked -Zbuild-std=std,panic_abort
  fi
  cp "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/redactor.wasm" .
}

build_c() {
  # This small program stands in for `wasm-tools component embed` and `new`, which take four minutes to install.
  CARGO_TARGET_DIR=$cache/componentize cargo build --quiet --release --locked --manifest-path "$here/componentize/Cargo.toml"
  local zig
  zig=$(python_package ziglang==0.17.0)
  PYTHONPATH=$zig ZIG_GLOBAL_CACHE_DIR=$cache/zig ZIG_LOCAL_CACHE_DIR=$work/zig \
    python3 -m ziglang cc -target wasm32-wasi -mexec-model=reactor -Os -Wall -Wextra -Werror \
    -Wl,--gc-sections,--strip-all -Wl,-z,stack-size=65536 hook.c redactor.c -o core.wasm
  "$cache/componentize/release/componentize" wit core.wasm rebuilt.wasm
  sha256sum --check --quiet redactor.wasm.sha256
  if ! cmp rebuilt.wasm redactor.wasm; then
    cp rebuilt.wasm "$out/c.wasm"
    echo "examples/redactors/c/redactor.wasm is not what its sources make; if they changed, copy $out/c.wasm there and run" \
      "\`sha256sum redactor.wasm >redactor.wasm.sha256\`" >&2
    return 1
  fi
}

build_javascript() {
  local modules
  modules=$cache/npm-$(sha256sum package-lock.json | cut -c1-16)
  if [ ! -d "$modules" ]; then
    npm install --no-save --loglevel=error >/dev/null
    mkdir "$work/modules"
    mv node_modules "$work/modules/"
    mv "$work/modules" "$modules"
  fi
  ln -s "$modules/node_modules" node_modules
  npm run --loglevel=error build >/dev/null
}

build_python() {
  local package
  package=$(python_package "$(cat requirements.txt)")
  PYTHONPATH=$package "$package/bin/componentize-py" -d wit -w redactor componentize --stub-wasi app -o redactor.wasm >/dev/null
}

for language; do
  case $language in
    rust | c | javascript | python) ;;
    *) echo "\`$language\` is no language of the examples: rust, c, javascript, python" >&2; exit 2 ;;
  esac
  started=$SECONDS
  # A copy, so that nothing is left beside the sources, with `wit` as a folder as anybody else would have it.
  cp -rL "$here/$language" "$work/$language"
  rm -rf "$work/$language"/{node_modules,target}
  # In a shell of its own, which stops at the first error: `set -e` does not hold in what `if` and `||` test.
  (cd "$work/$language" && "build_$language")
  cp "$work/$language/redactor.wasm" "$out/$language.wasm"
  echo "$language: $(stat -c %s "$out/$language.wasm") bytes in $((SECONDS - started)) s"
done
