//! RUN: from words to a step.
//!
//! Responsible for what a step runs, with which environment, and for what is mounted during it.
//! Must not know how a step is isolated.

use super::copy::Lookup;
use super::path;
use super::platform::proxy_env;
use super::step::{Mount, MountKind, Network, Op, Run, SCRIPTS};
use super::steps::Lowering;
use crate::dockerfile::ast::{Command, Instruction, RunArgs, RunNetwork};
use crate::dockerfile::heredoc::is_alone;

impl Lowering<'_> {
    /// Makes the history entry and the step of RUN.
    pub(super) fn run(
        &mut self,
        instruction: &Instruction,
        args: &RunArgs,
    ) -> Lookup<(String, Op)> {
        let entitled = &self.plan.entitlements;
        if let Some((RunNetwork::Host, span)) = &args.network {
            entitled.check_network(span)?;
        }
        if let Some(span) = &args.insecure {
            entitled.check_insecure(span)?;
        }
        let mut mounts = self.mounts(&args.mounts)?;
        let command = self.with_heredocs(instruction, &args.command, &mut mounts);
        let argv = self.argv(&command);
        let prefix = self.out.scope.history_prefix();
        let created_by = format!("RUN {prefix}{}", argv.join(" "));
        let given = self.plan.build_args.iter();
        let proxy = proxy_env(given.map(|(n, v)| (n.as_str(), v.as_str())))
            .into_iter()
            .filter(|(name, _)| self.out.scope.variables.get(name).is_none())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let op = Op::Run(Box::new(Run {
            argv,
            env: self.out.scope.variables.clone(),
            proxy,
            cwd: path::join("/", &self.out.config.working_dir),
            user: self.out.config.user.clone(),
            network: args.network.as_ref().map(|(network, _)| match network {
                RunNetwork::Host => Network::Host,
                RunNetwork::None => Network::None,
            }),
            insecure: args.insecure.is_some(),
            devices: self.devices(&args.devices)?,
            mounts,
        }));
        Ok((created_by, op))
    }

    /// Returns the command with its here-documents. One that is the whole command is what the shell
    /// runs, or a script for the program that it names; else the shell reads them itself.
    fn with_heredocs(
        &self,
        instruction: &Instruction,
        command: &Command,
        mounts: &mut Vec<Mount>,
    ) -> Command {
        let Command::Shell(line) = command else {
            return command.clone();
        };
        match &instruction.heredocs[..] {
            [] => command.clone(),
            [heredoc] if is_alone(line) => {
                let content = heredoc.content().as_str().to_owned();
                if !content.starts_with("#!") {
                    return Command::Shell(content);
                }
                let name = heredoc.name.clone();
                let script = format!("{SCRIPTS}/{name}");
                mounts.push(Mount {
                    span: heredoc.body.span(),
                    kind: MountKind::Script { name, content },
                });
                Command::Shell(script)
            }
            heredocs => {
                let mut text = line.clone();
                for heredoc in heredocs {
                    text.push('\n');
                    text.push_str(heredoc.body.as_str());
                    text.push_str(&heredoc.name);
                }
                Command::Shell(text)
            }
        }
    }
}
