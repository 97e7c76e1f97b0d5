//! `candor completions`: the completion script of a shell.

use clap::{Args, CommandFactory};

use super::Cli;
use super::output::Output;
use crate::error::Result;

/// Print the completion script of a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(&self, output: &Output) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "candor", &mut script);
        output.raw(&script)
    }
}
