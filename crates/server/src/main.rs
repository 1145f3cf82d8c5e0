//! The `tidewell` program.

use anyhow::{Context, bail};
use clap::Parser;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tidewell_server::{
    Command, CommandLine, LogForm, QuarantineCommand, Report, ServeOptions, Subject, VerifyOptions,
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidewell: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, without those that the text before them ends with.
fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let add =
        |told: String, cause: String| if told.ends_with(&cause) { told } else { format!("{told}: {cause}") };
    causes.reduce(add).unwrap_or_default()
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(options) => serve(options),
        Command::Materialize => Ok(tidewell_server::materialize()?),
        Command::Backup(options) => {
            let copied = tidewell_server::backup(&options.data, &options.to)?;
            println!("{} documents, {} bytes in {}", copied.documents, copied.bytes, options.to.display());
            Ok(())
        }
        Command::Restore(options) => {
            let copied = tidewell_server::restore(&options.from, &options.data)?;
            println!("{} documents, {} bytes in {}", copied.documents, copied.bytes, options.data.display());
            Ok(())
        }
        Command::Verify(options) => verify(options),
        Command::Conformance(options) => {
            Ok(tidewell_server::run_conformance(&options, &mut std::io::stdout())?)
        }
        Command::Token(options) => {
            Ok(tidewell_server::run_token_command(&options.command, std::io::stdin(), std::io::stdout())?)
        }
        Command::Quarantine(options) => match options.command {
            QuarantineCommand::List { data } => {
                for document in tidewell_server::quarantined(&data)? {
                    println!("{}\t{}\t{}", document.at_ms, document.reason, document.name);
                }
                Ok(())
            }
            QuarantineCommand::Release { data, document } => {
                tidewell_server::release(&data, &document)?;
                println!("released {document}");
                Ok(())
            }
        },
    }
}

fn verify(options: VerifyOptions) -> anyhow::Result<()> {
    let subject = match (options.data, options.backup) {
        (Some(data), None) => Subject::Data(data),
        (_, Some(backup)) => Subject::Backup(backup),
        (None, None) => bail!("--data or --backup is missing"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(tidewell_server::verify(&subject))?;
    for (document, problem) in &report.problems {
        println!("{document}\t{problem}");
    }
    let Report { documents, updates, bytes, compared, problems } = report;
    println!(
        "{documents} documents with {updates} updates of {bytes} bytes, {compared} snapshots compared with all their \
         rows, {} problems",
        problems.len()
    );
    if problems.is_empty() { Ok(()) } else { bail!("the store is not in order") }
}

fn serve(options: ServeOptions) -> anyhow::Result<()> {
    start_log(options.log);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        // Before anybody can know that it runs: an end that is asked for is always one in good order.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let relay = tidewell_server::Prepared::new(&options)?;
        let listener = tokio::net::TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        let scheme = if options.tls_certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        match options.log {
            // Nobody need read it: a closed standard output does not stop the relay.
            LogForm::Text => drop(writeln!(std::io::stdout(), "listening on {url}")),
            LogForm::Json => tracing::info!(url, "listening"),
        }
        match (&options.keys, options.anyone_may_read_and_write) {
            (Some(_), _) => {}
            (None, false) => tracing::info!("serving loopback only, because there are no keys"),
            (None, true) => {
                tracing::warn!("whoever can connect reads and changes everything: there are no keys")
            }
        }
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        relay.run(listener, shutdown).await?;
        anyhow::Ok(())
    });
    // Reads of a disk that hangs must not hold up the end.
    runtime.shutdown_background();
    served
}

/// Each connection is an open file, and the usual limit for those is 1,024. Where it cannot be raised the
/// relay serves as many as it can.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn start_log(form: LogForm) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TIDEWELL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // The full disk that is to be reported may be the log's own: a line that cannot be written is dropped,
    // where the default would panic.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    match form {
        LogForm::Text => log.init(),
        LogForm::Json => log.json().flatten_event(true).init(),
    }
}
