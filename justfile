# `just` lists the recipes.

_list:
    @just --list --unsorted

# everything that must hold before a change lands
check:
    .ci/run

# the tests
test *arguments:
    cargo test --workspace {{ arguments }}

# format all Rust files; those that the registries declare are named, since `cargo fmt` does not find them
fmt:
    cargo fmt --all
    rustfmt --edition 2024 crates/theriac-attacks/src/*.rs crates/theriac-defenses/src/*.rs

# clippy with warnings as errors; licences and advisories if cargo-deny is installed
lint:
    cargo clippy --workspace --all-targets -- -D warnings
    if command -v cargo-deny >/dev/null; then cargo deny check; fi

# the API documentation with warnings as errors
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# write docs/reference anew from the registries
reference:
    cargo run -- reference

# the main job: under two minutes after the build, results/quickstart/report.html
quickstart:
    cargo run --release -- run configs/quickstart.toml
