//! The `treebox` executable.

fn main() {
    treebox::worker::hook();
}
