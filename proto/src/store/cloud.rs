//! Clients of S3, Google and Azure, built from the environment, each with what its service needs to answer well.

use std::time::Duration;

use object_store::{
    ClientOptions, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
};
use url::Url;

use super::{Env, StoreError};

/// The total time of a request covers its body, so it must fit a large part over a slow line.
fn client() -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout(Duration::from_secs(300))
        .with_user_agent(http_user_agent())
}

fn http_user_agent() -> object_store::HeaderValue {
    object_store::HeaderValue::from_static(concat!("preannotate/", env!("CARGO_PKG_VERSION")))
}

pub(super) fn retries() -> RetryConfig {
    RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

pub(super) fn s3(uri: &str, bucket: &str, env: &Env) -> Result<AmazonS3Builder, StoreError> {
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_disable_tagging(true); // R2 answers 501 to tags, which the client would retry for minutes
    let mut options = client();
    // An empty variable is an unset one, as everywhere.
    let mut env = env.clone();
    env.retain(|_, value| !value.is_empty());
    let endpoint = env
        .get("AWS_ENDPOINT_URL_S3")
        .or_else(|| env.get("AWS_ENDPOINT_URL"))
        .or_else(|| env.get("AWS_ENDPOINT"));
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(endpoint) = endpoint {
        if !env.contains_key("AWS_ACCESS_KEY_ID") && !env.contains_key("AWS_SKIP_SIGNATURE") {
            // Without keys the client would ask the cloud's instance metadata, and hang.
            return Err(StoreError::NoCredentials {
                uri: uri.to_owned(),
                hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for R2: an object read and write token)",
            });
        }
        if is_loopback(endpoint) {
            options = options.with_allow_http(true);
        }
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        if !env.contains_key("AWS_REGION") && !env.contains_key("AWS_DEFAULT_REGION") {
            let region = if endpoint.contains(".r2.cloudflarestorage.com") { "auto" } else { "us-east-1" };
            builder = builder.with_region(region);
        }
    }
    if env.get("AWS_ALLOW_HTTP").is_some_and(|value| value == "true" || value == "1") {
        options = options.with_allow_http(true);
    }
    Ok(builder.with_client_options(options))
}

fn is_loopback(endpoint: &str) -> bool {
    Url::parse(endpoint).is_ok_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    })
}

pub(super) fn gcs(bucket: &str, env: &Env) -> GoogleCloudStorageBuilder {
    let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with("GOOGLE_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_client_options(client())
}

pub(super) fn azure(container: &str, env: &Env) -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::new().with_container_name(container);
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with("AZURE_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_client_options(client())
}
