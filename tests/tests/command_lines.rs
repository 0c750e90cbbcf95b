//! What every program can say about itself: completions that a real shell loads, and manual pages that a real formatter reads.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{Story, run};

/// The programs, and the subcommands that have a page of their own.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("ocluster-scheduler", &["import", "export"]),
    ("ocluster-worker", &[]),
    (
        "ocluster-client",
        &[
            "submit-docker",
            "submit-obuilder",
            "jobs",
            "status",
            "log",
            "cancel",
            "wait",
            "explain",
        ],
    ),
    (
        "ocluster-admin",
        &[
            "add-client",
            "remove-client",
            "list-clients",
            "set-rate",
            "show",
            "exec",
            "pause",
            "unpause",
            "drain",
            "update",
            "forget",
            "jobs",
            "status",
            "cancel",
            "requeue",
            "explain",
            "log",
        ],
    ),
    (
        "obuilder",
        &[
            "build",
            "healthcheck",
            "dockerfile",
            "ls",
            "export",
            "delete",
            "clean",
            "check",
        ],
    ),
];

#[test]
fn completions_load_in_bash_and_are_made_for_every_shell() -> Result<()> {
    Story::tell(&[], |story| {
        for (program, _) in PROGRAMS {
            for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
                let mut command = story.programs.command(program);
                let script = run(command.args(["completions", shell]))?.success()?.stdout;
                ensure!(script.contains(program), "{program} {shell}: {script}");
                if shell != "bash" {
                    continue;
                }
                let file = story.scratch.write(&format!("{program}.bash"), script)?;
                run(Command::new("bash").arg("-n").arg(&file))?.success()?;
                let loaded = run(Command::new("bash")
                    .args(["--norc", "-c", ". \"$1\"; complete -p \"$2\"", "bash"])
                    .arg(&file)
                    .arg(program))?
                .success()?
                .stdout;
                ensure!(
                    loaded.starts_with("complete ")
                        && loaded.trim_end().ends_with(&format!(" {program}")),
                    "{loaded}"
                );
            }
        }
        Ok(())
    })
}

#[test]
fn every_manual_page_is_formatted_without_a_warning() -> Result<()> {
    Story::tell(&[], |story| {
        for (program, commands) in PROGRAMS {
            let own = std::iter::once(None).chain(commands.iter().map(Some));
            for command in own {
                let mut man = story.programs.command(program);
                let page = run(man.arg("man").args(command))?.success()?.stdout;
                let name =
                    command.map_or(program.to_owned(), |command| format!("{program}-{command}"));
                let file = story.scratch.write(&format!("{name}.1"), page)?;
                check_page(&file, &name).with_context(|| format!("the page {name}(1)"))?;
            }
        }
        Ok(())
    })
}

fn check_page(file: &Path, name: &str) -> Result<()> {
    let formatted = run(Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-P-cbou"])
        .arg(file))?
    .success()?;
    ensure!(
        formatted.stderr.is_empty(),
        "groff says {}",
        formatted.stderr
    );
    let text = formatted.stdout;
    for wanted in [name, "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "--help"] {
        ensure!(text.contains(wanted), "it lacks {wanted}:\n{text}");
    }
    Ok(())
}
