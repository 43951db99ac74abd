//! The `treebox` program: the command line, or the worker when it was started as one.

mod cli;

fn main() -> std::process::ExitCode {
    treebox::worker::hook();
    cli::main()
}
