# Everything CI builds uses one profile, so nothing is compiled twice.
profile := "--profile ci"

# Formatting, lints, doc links, house rules, tests: what CI runs.
check:
    cargo fmt --all --check
    cargo clippy {{profile}} --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc {{profile}} --no-deps --lib
    cargo test {{profile}}

# docket's main job in one run.
quickstart:
    cargo run --release --example quickstart

# Everything CI does, the peers included.
ci:
    bash .ci/run
