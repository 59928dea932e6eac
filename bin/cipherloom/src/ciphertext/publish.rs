//! `cipherloom ciphertext publish`: everything there is, once.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use cipherloom_coprocessor::{mirror::Publisher, system_clock};
use cipherloom_service::key_file::{self, KeyFile};
use cipherloom_store::ObjectsUrl;
use clap::Args;
use serde_json::json;

use super::sources::open_database;
use crate::database::{DatabaseOptions, random};

pub(super) const HELP: &str = "\
Publish a deployment's ciphertexts to a mirror, once; a coprocessor with --mirror does so all the time.

Each value gets a record with its handle, key set and digest, signed with the deployment's key, beside the bytes. Anybody can then fetch and check it with `cipherloom ciphertext get --mirror`. \
Published is the packed form: results become ready when transactions no longer read them in raw form, inputs at once.

What was published is remembered, so that this goes on where it, or a coprocessor, stopped. --again publishes everything anew: to another mirror, or under another key. docs/mirror.md describes the layout.";

/// Options of `publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishOptions {
    #[command(flatten)]
    database: DatabaseOptions,

    /// Only this tenant's ciphertexts.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// Where the deployment keeps the bytes of ciphertexts, if outside of its database. It may be the mirror itself.
    #[arg(long, value_name = "URL")]
    ciphertext_store: Option<ObjectsUrl>,

    /// The mirror: file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.
    #[arg(long, value_name = "URL")]
    mirror: ObjectsUrl,

    /// The file with the key to sign with.
    #[arg(long, value_name = "FILE", default_value = "./coprocessor.key")]
    coprocessor_private_key: PathBuf,

    /// Publish everything anew, also what was published before.
    #[arg(long)]
    again: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Publishes, and says how much.
///
/// # Errors
/// If the database, the mirror or the key cannot be used, or a value could not be published; what could be then is.
pub(super) async fn run(options: &PublishOptions) -> Result<()> {
    ensure!(
        options.mirror.is_writable(),
        "{} can only be read; name the place that is published there",
        options.mirror
    );
    let signer = key_file::read(&options.coprocessor_private_key, KeyFile::COPROCESSOR)?;
    let address = signer.address();
    let place = options.mirror.open().context("cannot use the mirror")?;
    let database = open_database(&options.database.database_url, options.ciphertext_store.as_ref()).await?;
    let mut tenants = database.tenants().await?;
    if let Some(name) = &options.tenant {
        tenants.retain(|tenant| tenant.name == *name);
        if tenants.is_empty() {
            bail!("there is no tenant {name:?}; `cipherloom tenant list` shows all");
        }
    }
    let mut counts = Vec::new();
    for tenant in &tenants {
        let store = database.store(tenant);
        if options.again {
            store.publish_again(tenant.chain_id).await?;
        }
        let owner = format!("cipherloom ciphertext publish {}", hex::encode(random::<8>()?));
        let publisher = Publisher::new(tenant.chain_id, store, Arc::clone(&place), signer.clone(), owner, system_clock());
        let published = publisher.publish(usize::MAX).await;
        let published = published.with_context(|| format!("not everything of tenant {} could be published", tenant.name))?;
        counts.push((tenant.name.as_str(), published));
    }
    if options.json {
        let tenants: Vec<_> = counts
            .iter()
            .map(|(name, published)| json!({ "name": name, "values": published.values, "busy": published.busy }))
            .collect();
        println!(
            "{}",
            json!({ "mirror": options.mirror.to_string(), "signer": address.to_checksum(None), "tenants": tenants })
        );
        return Ok(());
    }
    println!("signed by {address}, published to {}", options.mirror);
    for (name, published) in counts {
        let busy = if published.busy {
            "; another process publishes for this tenant, and the rest is left to it"
        } else {
            ""
        };
        println!("{name:<24} {} ciphertexts{busy}", published.values);
    }
    Ok(())
}
