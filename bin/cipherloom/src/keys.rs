//! `cipherloom keys`: key sets and signing keys, from their making to the copies that others need.

mod describe;
mod export;
mod inspect;
mod signing_key;
mod verify;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result};
use cipherloom_fhe::{KeySet, ParameterSet};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::{data_dir, progress::KeyGenerationBar};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Generate a key set into a directory (ten seconds to a minute; a progress bar shows it).
    Generate(GenerateOptions),
    /// Add to a key set what threshold decryption needs: keys that squash noise, and the secrets that a ceremony deals (half a minute; a progress bar shows it).
    #[command(long_about = SQUASHING_HELP)]
    AddNoiseSquashing(AddSquashingOptions),
    /// Show what a key set is, how secure it is, what it can do, and which of its parts are here and are secret.
    #[command(visible_alias = "show")]
    Inspect(OneKeySet),
    /// Use every part of a key set and compare the results: encrypt, prove, verify, compute, pack, and decrypt if the secret key is here.
    Verify(OneKeySet),
    /// Copy a key set without its secret key, for coprocessors, clients or other programs.
    #[command(long_about = EXPORT_HELP)]
    Export(ExportOptions),
    /// Make a signing key for a coprocessor, in a file that only its owner can read, and print its address.
    SigningKey(SigningKeyOptions),
}

const SQUASHING_HELP: &str = "\
Add to a key set what threshold decryption needs: keys that squash noise, and the secrets that a ceremony deals.

The secret key has to be in the directory. Coprocessors get squashing_key.bin and squashed_packing_key.bin with the next `cipherloom keys export` or `cipherloom tenant set-keys`; with \
production parameters these are 405 MB, and 1.8 GB in the memory of a coprocessor that squashes. squashing_secret.bin decrypts what was squashed: it stays with the secret key, and goes when \
it was dealt to a committee. The key set keeps its id, and what was encrypted under it stays as it is.

A key set whose secrets never touch a disk is made by `cipherloom kms ceremony`.";

const EXPORT_HELP: &str = "\
Copy a key set without its secret key, for coprocessors, clients or other programs.

Without more options the copy is a key set for coprocessors: everything but the secret key. With --public-only it is what clients encrypt with, and what may be put on \
a public web server: public key, reference string, and the manifest, whose id says whether the other two are the right ones.

With --tfhe-files it is three files that tfhe-rs reads by itself with `safe_deserialize`, under the names of the 0.6 generation: pks (CompactPublicKey), pp (CompactPkeCrs) and \
sks (ServerKey, decompressed: some 370 MB). Programs on tfhe-rs 1.8 read all three, clients on 1.3 or later pks and pp. Software of the 0.6 generation \
itself, on tfhe-rs 0.9 or 0.10, reads pks and pp of key sets for it (`--parameters production-0.6`), and else none of them, whatever their names.";

/// Options of `keys generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateOptions {
    /// The directory; it must not exist yet, or be empty.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Which parameters the keys have. What is called insecure hides nothing.
    #[arg(long, value_enum, value_name = "SET", default_value_t)]
    parameters: ParametersOption,

    /// Make what threshold decryption needs too: keys that squash noise, and the secrets that a ceremony deals. Takes half a minute longer.
    #[arg(long)]
    noise_squashing: bool,

    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// Options of `keys add-noise-squashing`.
#[derive(Debug, Args)]
pub(crate) struct AddSquashingOptions {
    /// The key set's directory, with its secret key.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// The parameter sets that keys can be generated for.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum ParametersOption {
    /// 128 bits of security, failure probability of a bootstrap below 2^-128.
    #[default]
    Production,
    /// As secure, for clients of the 0.6 generation (fhevmjs); making one takes minutes, and so do their proofs.
    #[value(name = "production-0.6")]
    Production06,
    /// The same, for computing on GPUs. EXPERIMENTAL.
    #[cfg(feature = "gpu")]
    ProductionGpu,
    /// INSECURE: no encryption at all, for development.
    #[cfg(feature = "insecure-development")]
    InsecureClear,
    /// INSECURE: real TFHE on parameters that anyone breaks, for tests.
    #[cfg(feature = "insecure-development")]
    InsecureToy,
}

impl From<ParametersOption> for ParameterSet {
    fn from(option: ParametersOption) -> Self {
        match option {
            ParametersOption::Production => Self::Production,
            ParametersOption::Production06 => Self::Production06,
            #[cfg(feature = "gpu")]
            ParametersOption::ProductionGpu => Self::ProductionGpu,
            #[cfg(feature = "insecure-development")]
            ParametersOption::InsecureClear => Self::InsecureClear,
            #[cfg(feature = "insecure-development")]
            ParametersOption::InsecureToy => Self::InsecureToy,
        }
    }
}

/// A key set that is there.
#[derive(Debug, Args)]
pub(crate) struct OneKeySet {
    /// The key set's directory [default: the one `demo` and `dev` use].
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl OneKeySet {
    fn directory(&self) -> Result<PathBuf> {
        self.directory.clone().map_or_else(data_dir::default_keys, Ok)
    }
}

/// Options of `keys export`.
#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    #[command(flatten)]
    from: OneKeySet,

    /// Where the copy goes; the directory must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Copy only what clients encrypt with: public key, reference string, manifest.
    #[arg(long, conflicts_with = "tfhe_files")]
    public_only: bool,

    /// Write plain files for other programs on tfhe-rs: pks, pp and sks.
    #[arg(long)]
    tfhe_files: bool,
}

/// Options of `keys signing-key`.
#[derive(Debug, Args)]
pub(crate) struct SigningKeyOptions {
    /// The file; it must not exist yet.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// If keys cannot be made, read or written, or are not right.
pub(crate) fn run(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Generate(options) => generate(&options),
        KeysCommand::AddNoiseSquashing(options) => add_noise_squashing(&options),
        KeysCommand::Inspect(options) => inspect::run(&options),
        KeysCommand::Verify(options) => verify::run(&options),
        KeysCommand::Export(options) => export::run(&options),
        KeysCommand::SigningKey(options) => make_signing_key(&options),
    }
}

/// Opens the key set of a directory, or generates one there with a progress bar.
///
/// # Errors
/// If the keys cannot be read, or generated.
pub(crate) fn open_or_generate(directory: &Path, parameters: ParameterSet) -> Result<Arc<KeySet>> {
    let keys = KeySet::open_or_generate(directory, parameters, &KeyGenerationBar::new())
        .with_context(|| format!("cannot use the keys in {}", directory.display()))?;
    Ok(Arc::new(keys))
}

/// Adds noise squashing to a key set whose secret key is here, with a progress bar.
///
/// # Errors
/// If it cannot be made or written.
pub(crate) fn with_noise_squashing(keys: &KeySet) -> Result<Arc<KeySet>> {
    let keys = keys
        .add_noise_squashing(&KeyGenerationBar::of_noise_squashing())
        .with_context(|| format!("cannot add noise squashing to the keys in {}", keys.directory().display()))?;
    Ok(Arc::new(keys))
}

/// Opens what a directory has of a key set.
fn open(directory: &Path) -> Result<KeySet> {
    // A folder of the 0.6 generation is recognised, because an error about a manifest would not help.
    let plain_files = ["sks", "pks"].iter().all(|file| directory.join(file).is_file());
    anyhow::ensure!(
        !plain_files || directory.join("manifest.json").exists(),
        "{} holds plain tfhe files (pks, sks, pp), as the 0.6 generation used and `cipherloom keys export --tfhe-files` writes; \
         a key set of this software has a manifest.json",
        directory.display()
    );
    KeySet::open_public(directory).with_context(|| format!("cannot use the keys in {}", directory.display()))
}

fn generate(options: &GenerateOptions) -> Result<()> {
    let (start, directory) = (Instant::now(), &options.directory);
    let parameters = ParameterSet::from(options.parameters);
    anyhow::ensure!(
        !options.noise_squashing || parameters.can_squash_noise(),
        "keys of {parameters} cannot squash noise; leave out --noise-squashing, or choose other --parameters"
    );
    let keys = KeySet::generate(directory, parameters, &KeyGenerationBar::new())?;
    let keys = if options.noise_squashing {
        keys.add_noise_squashing(&KeyGenerationBar::of_noise_squashing())?
    } else {
        keys
    };
    let (id, seconds) = (keys.manifest().id, start.elapsed().as_secs_f64());
    if options.json {
        let description = json!({
            "id": id.to_string(),
            "directory": directory,
            "parameters": parameters.name(),
            "isSecure": parameters.is_secure(),
            "noiseSquashing": keys.has_noise_squashing(),
            "seconds": seconds,
        });
        println!("{description}");
        return Ok(());
    }
    println!("key set {id} generated in {seconds:.1} s");
    println!(
        "{} holds it; secret_key.bin decrypts everything, so keep it from others",
        directory.display()
    );
    if options.noise_squashing {
        println!("squashing_secret.bin decrypts what was squashed: deal it to a committee, and remove it then");
    }
    println!("a copy for coprocessors: cipherloom keys export {} --to DIR", directory.display());
    if !parameters.is_secure() {
        println!("INSECURE: {parameters} hides nothing");
    }
    Ok(())
}

fn add_noise_squashing(options: &AddSquashingOptions) -> Result<()> {
    let (start, directory) = (Instant::now(), &options.directory);
    let context = || format!("cannot add noise squashing to the keys in {}", directory.display());
    let keys = open(directory)?;
    anyhow::ensure!(
        keys.has_secret_key(),
        "{} has no secret key; keys that squash noise are made from it, so add them where it is",
        directory.display()
    );
    let keys = keys
        .add_noise_squashing(&KeyGenerationBar::of_noise_squashing())
        .with_context(context)?;
    let (id, seconds) = (keys.manifest().id, start.elapsed().as_secs_f64());
    if options.json {
        let description = json!({ "id": id.to_string(), "directory": directory, "noiseSquashing": true, "seconds": seconds });
        println!("{description}");
        return Ok(());
    }
    println!("key set {id} can squash noise; its keys for it were made in {seconds:.1} s");
    println!("squashing_secret.bin decrypts what was squashed: deal it to a committee, and remove it then");
    println!(
        "coprocessors need the new keys: cipherloom keys export {} --to DIR, or cipherloom tenant set-keys NAME --keys {}",
        directory.display(),
        directory.display()
    );
    Ok(())
}

fn make_signing_key(options: &SigningKeyOptions) -> Result<()> {
    let address = signing_key::generate(&options.file)?.to_checksum(None);
    if options.json {
        println!("{}", json!({ "file": options.file, "address": address }));
        return Ok(());
    }
    println!("address {address}");
    println!(
        "{} holds the key; register the address as a coprocessor in the InputVerifier contract of each chain",
        options.file.display()
    );
    Ok(())
}
