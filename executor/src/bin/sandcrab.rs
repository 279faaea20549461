//! The program `sandcrab`.

fn main() -> std::process::ExitCode {
    executor::cli::main()
}
