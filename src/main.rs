fn main() {
    treebox::worker::hook();
}
