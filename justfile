# What CI runs, one recipe each. `just` alone lists them.

_list:
    @just --list --unsorted

# Everything that CI runs.
ci:
    .ci/run

# Formatting.
fmt:
    cargo fmt --check

# Lints, warnings denied.
clippy:
    cargo clippy --all-targets --locked -- -D warnings

# Documentation, warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

# Every test; as root also as a user with subordinate ids and as one without.
test:
    .ci/test

# Licences, banned crates and sources of the dependencies.
licences:
    .ci/licences

# The tests of the format only.
format:
    cargo test --locked --test treebox format::

# The measurements.
bench:
    cargo bench --locked
