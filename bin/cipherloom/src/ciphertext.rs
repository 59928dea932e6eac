//! `cipherloom ciphertext`: fetches ciphertexts by their handle from wherever they are, and checks who vouches for them.

mod publish;
mod report;
mod sources;

use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use anyhow::{Context, Result, ensure};
use cipherloom_coprocessor::mirror::CiphertextRecord;
use cipherloom_store::ObjectsUrl;
use clap::{Args, Subcommand};

use self::{
    publish::PublishOptions,
    report::{Report, Signature},
};

/// The longest ciphertext that is read from a file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

pub(crate) const HELP: &str = "\
Fetch ciphertexts by their handle, check who vouches for them, and publish them.

A ciphertext can be had from three places, and none needs to be trusted: the bytes must have the digest that somebody signed, and you say whose signature counts. \
What a ciphertext decrypts to is none of this: ciphertexts are public, and only the KMS opens them, for those whom the chain's access list allows.

  cipherloom ciphertext get 0xHANDLE --mirror https://HOST/PATH --signer 0xADDRESS --out value.bin
  cipherloom ciphertext verify value.bin --record record.json --signer 0xADDRESS";

const GET_HELP: &str = "\
Fetch the ciphertext of a handle, and check it.

From a mirror (--mirror), anybody; from a coprocessor (--server), a tenant with its API key; from a deployment's database (--database-url), an operator. \
The digest is always checked, and so is the signature where there is one: a database holds none. If anything does not verify, nothing is written and the exit code is not 0.

The addresses that coprocessors sign with are what the chain's InputVerifier reports (`getCoprocessorSigners()`), or what the operator told you by another way than the mirror.";

/// What to do with ciphertexts.
#[derive(Debug, Subcommand)]
pub(crate) enum CiphertextCommand {
    /// Fetch the ciphertext of a handle, check it, and write it to a file or say what it is.
    #[command(long_about = GET_HELP)]
    Get(Box<GetOptions>),
    /// Check a ciphertext in a file against a record of a mirror, without any connection.
    Verify(VerifyOptions),
    /// Publish a deployment's ciphertexts to a mirror, once; a coprocessor with --mirror does so all the time.
    #[command(long_about = publish::HELP)]
    Publish(Box<PublishOptions>),
}

/// Options of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    /// The handle: 64 hexadecimal digits, with or without 0x. From a coprocessor or a database also another name that a node gave a value.
    #[arg(value_parser = parse_name)]
    handle: HandleName,

    /// Fetch it from a mirror: https://HOST/PATH, file:///DIR, s3://BUCKET/PREFIX, gs://… or az://….
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    mirror: Option<ObjectsUrl>,

    /// Fetch it from a coprocessor over gRPC: http://HOST:PORT, or https://HOST:PORT.
    #[arg(long, value_name = "URL", requires = "api_key_file")]
    server: Option<String>,

    /// The file with the tenant's API key, for --server.
    #[arg(long, value_name = "FILE", requires = "server")]
    api_key_file: Option<PathBuf>,

    /// The certificates that vouch for a server with https, a PEM file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        requires = "server"
    )]
    tls_roots: PathBuf,

    #[command(flatten)]
    deployment: DeploymentOptions,

    #[command(flatten)]
    signers: SignerOptions,

    /// Write the bytes to this file. Without it, nothing is written, and everything is checked all the same.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Write the mirror's record to this file, for `cipherloom ciphertext verify`.
    #[arg(long, value_name = "FILE", requires = "mirror")]
    record_out: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which tenant of which database.
#[derive(Args)]
struct DeploymentOptions {
    /// Fetch it from a deployment's database: postgres://USER:PASSWORD@HOST/DATABASE, or sqlite:FILE for an embedded one that no process
    /// uses. It counts if neither --mirror nor --server is given.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,

    /// The tenant; not needed if there is one alone.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// Where the deployment keeps the bytes of ciphertexts, if outside of its database.
    #[arg(long, value_name = "URL")]
    ciphertext_store: Option<ObjectsUrl>,
}

impl std::fmt::Debug for DeploymentOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("DeploymentOptions").finish_non_exhaustive()
    }
}

/// Whose signature counts.
#[derive(Clone, Debug, Args)]
struct SignerOptions {
    /// An address whose signature counts. May be given several times; one of them must have signed.
    #[arg(long = "signer", value_name = "ADDRESS")]
    signers: Vec<Address>,

    /// Accept whoever signed, and say who it was: the bytes are then as somebody signed them, and it is up to you whether that is enough.
    #[arg(long, conflicts_with = "signers")]
    any_signer: bool,
}

impl SignerOptions {
    /// Returns whose signatures count; nobody in particular if anybody's does.
    fn expected(&self) -> Result<&[Address]> {
        ensure!(
            self.any_signer || !self.signers.is_empty(),
            "say whose signature counts with --signer ADDRESS (the chain's InputVerifier and the operator know), or accept whoever signed with --any-signer"
        );
        Ok(&self.signers)
    }

    fn accepts(&self, signer: Address) -> bool {
        self.any_signer || self.signers.contains(&signer)
    }
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// The file with the ciphertext.
    file: PathBuf,

    /// The record: the file `handles/…/….json` of a mirror, as `get --record-out` writes it.
    #[arg(long, value_name = "FILE")]
    record: PathBuf,

    /// Refuse a record of another handle.
    #[arg(long, value_name = "HANDLE")]
    handle: Option<cipherloom_primitives::Handle>,

    #[command(flatten)]
    signers: SignerOptions,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A name of a value: a handle, or what a node of the 0.6 generation calls one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HandleName(Vec<u8>);

impl HandleName {
    /// Returns the handle that the name is by itself.
    fn handle(&self) -> Option<cipherloom_primitives::Handle> {
        let word = alloy::primitives::B256::try_from(self.0.as_slice()).ok()?;
        cipherloom_primitives::Handle::try_from(word).ok()
    }
}

impl std::fmt::Display for HandleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{}", hex::encode(&self.0))
    }
}

fn parse_name(text: &str) -> Result<HandleName, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match hex::decode(digits) {
        Ok(bytes) if (1..=cipherloom_store::MAX_HANDLE_NAME_BYTES).contains(&bytes.len()) => Ok(HandleName(bytes)),
        _ => Err("a handle is 64 hexadecimal digits, with or without 0x in front".to_owned()),
    }
}

/// Runs one of the commands.
///
/// # Errors
/// If something cannot be had, or does not verify.
pub(crate) async fn run(command: CiphertextCommand) -> Result<()> {
    match command {
        CiphertextCommand::Get(options) => get(&options).await,
        CiphertextCommand::Verify(options) => verify(&options),
        CiphertextCommand::Publish(options) => publish::run(&options).await,
    }
}

async fn get(options: &GetOptions) -> Result<()> {
    let found = sources::fetch(options).await?;
    if let Some(path) = &options.out {
        write(path, &found.bytes)?;
    }
    if let (Some(path), Some(record)) = (&options.record_out, &found.record) {
        write(path, &record.to_document()?)?;
    }
    found.report.print(options.json, options.out.as_deref());
    Ok(())
}

fn verify(options: &VerifyOptions) -> Result<()> {
    let expected = options.signers.expected()?;
    let record = CiphertextRecord::parse(&read(&options.record)?)?;
    if let Some(handle) = options.handle {
        ensure!(
            record.handle == handle,
            "the record is about handle {}, not {handle}",
            record.handle
        );
    }
    if options.signers.any_signer {
        record.check_signature(&[record.signer])?;
    } else {
        record.check_signature(expected)?;
    }
    record.check_bytes(&read(&options.file)?)?;
    Report::of_record(&record, &options.signers, "file").print(options.json, None);
    Ok(())
}

/// Reads a file that is not too long for what it should be.
fn read(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    ensure!(
        size <= MAX_FILE_BYTES,
        "{} has {size} bytes; a ciphertext or record has at most {MAX_FILE_BYTES}",
        path.display()
    );
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_other_names_are_read() {
        let handle = format!("{}000000000000007a6900ff0500", "ab".repeat(19));
        for text in [
            format!("0x{}", "11".repeat(32)),
            "11".repeat(32),
            "0x01".to_owned(),
            "ff".repeat(256),
        ] {
            let name = parse_name(&text).unwrap();
            assert_eq!(name.to_string().trim_start_matches("0x"), text.trim_start_matches("0x"));
        }
        for text in ["", "0x", "0x1", "hello", &"00".repeat(257), &handle[1..]] {
            assert!(parse_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn somebody_must_be_expected_to_sign() {
        let nobody = SignerOptions {
            signers: Vec::new(),
            any_signer: false,
        };
        assert!(nobody.expected().unwrap_err().to_string().contains("--signer"));
        let anybody = SignerOptions {
            any_signer: true,
            ..nobody.clone()
        };
        assert!(anybody.expected().unwrap().is_empty());
        assert!(anybody.accepts(Address::ZERO) && !nobody.accepts(Address::ZERO));
    }
}
