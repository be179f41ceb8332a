//! Project tasks: `cargo xtask test` sets up what the tests need and runs all of them;
//! `cargo xtask bench` measures the router beside other proxies; `cargo xtask dist` makes what is installed.
//!
//! Not a build system: what `cargo` can do alone is left to it.

mod bench;
mod dist;
mod needs;
mod tests;
mod tutorial;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask test [FILTER…]
       cargo xtask bench …
       cargo xtask dist static|image|deb …
       cargo xtask tutorial …

Sets up what the tests need (git, chromium, a Kubernetes control plane), builds all tests and runs them. With FILTERs, runs
only tests whose name contains one of them. `bench` measures the router beside other proxies;
`cargo xtask bench --help` says how. `dist` makes a static binary, a container image of it without a
daemon or a registry, or a Debian package; `cargo xtask dist --help` says how. `tutorial` follows the tutorial's page
on a cluster with real pods; `cargo xtask tutorial --help` says what that needs.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((task, filters)) if task == "test" && !filters.iter().any(|filter| filter.starts_with('-')) => {
            needs::set_up().and_then(|()| tests::run(filters))
        }
        Some((task, [help])) if task == "bench" && help == "--help" => {
            print!("{}", bench::USAGE);
            return ExitCode::SUCCESS;
        }
        Some((task, arguments)) if task == "bench" => bench::run(arguments),
        Some((task, [help])) if task == "dist" && help == "--help" => {
            print!("{}", dist::USAGE);
            return ExitCode::SUCCESS;
        }
        Some((task, arguments)) if task == "dist" => dist::run(arguments),
        Some((task, [help])) if task == "tutorial" && help == "--help" => {
            print!("{}", tutorial::USAGE);
            return ExitCode::SUCCESS;
        }
        Some((task, arguments)) if task == "tutorial" => match tutorial::run(arguments) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
