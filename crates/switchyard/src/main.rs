//! The `switchyard` binary: arguments, config documents and assembly. No routing, naming or
//! rollout logic lives here.
//!
//! One file per command. `arguments` says what can be typed, `exit` what a command answers with.

mod arguments;
mod demo;
mod deploy;
mod document;
mod dtab;
mod exit;
mod helloworld;
mod invocation;
mod logs;
mod memory;
mod namerd;
mod output;
mod pipeline;
mod router;
mod runtime;
mod signals;
mod systemd;
mod web;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use exit::Exit;
use invocation::Invocation;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runtime::small_pages();
    match Invocation::of_this_process() {
        Invocation::Namerctl(arguments) => dtab::namerctl::main(&arguments).into(),
        Invocation::Switchyard(arguments) => exit::report(run(Arguments::parse_from(arguments))).into(),
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let log = logs::start(&arguments.logs, arguments.command.is_server())?;
    match arguments.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Deploy(arguments) => deploy::run(arguments),
        Command::Namerd(arguments) => namerd::run(arguments, log),
        Command::Pipeline(arguments) => pipeline::run(arguments),
        Command::Router(arguments) => router::run(arguments, log),
        Command::Helloworld(arguments) => helloworld::run(arguments),
        Command::Dtab(arguments) => dtab::run(arguments),
        Command::Completions(arguments) => arguments::completions(arguments),
    }
}
