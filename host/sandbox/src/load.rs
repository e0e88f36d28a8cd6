//! From bytes to a plugin: looked at, compiled or taken from the cache, linked, described. Every refusal is a sentence for whoever
//! brought the file.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::error::LoadError;
use crate::host::bindings::CheckPre;
use crate::plugin::{Description, Plugin};
use crate::{Sandbox, Settings, wasi};

/// The export that makes a component a check, without its version.
const CHECKER: &str = "picket:check/checker";
const VALIDATOR: &str = "picket:check/validator";
/// The contract that this agent speaks.
const CONTRACT: &str = "0.1.";

/// Our own interfaces, without their versions.
const OWN: [&str; 10] = [
    "picket:check/verdict",
    "picket:net/types",
    "picket:net/secrets",
    "picket:net/regex",
    "picket:net/dns",
    "picket:net/tls",
    "picket:net/tcp",
    "picket:net/http",
    "picket:net/oauth2",
    "picket:net/log",
];

impl Sandbox {
    /// Makes a plugin of a component.
    ///
    /// # Errors
    /// One variant for each way in which the bytes are not a plugin for this agent.
    pub async fn load(&self, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let settings = &self.inner.settings;
        look(bytes, LARGEST.max(settings.max_component_bytes))?;
        let digest = hex::encode(Sha256::digest(bytes));
        permit(bytes.len(), &digest, settings)?;
        let component = self.component(&digest, bytes).await?;
        let imports = imports(&component);
        let exports = exports(&component);
        refuse_imports(&imports)?;
        refuse_exports(&exports)?;
        let contract = |error: wasmtime::Error| LoadError::Contract(mismatch(&error));
        let pre = self.inner.linker.instantiate_pre(&component).map_err(contract)?;
        let pre = CheckPre::new(pre).map_err(contract)?;
        let validator = validator(&component, &exports)?;
        let described = self.describe(&pre).await.map_err(LoadError::Describe)?;
        let (description, schema) = Description::read(described)?;
        Ok(Arc::new(Plugin {
            digest: format!("sha256:{digest}"),
            metrics: description.metrics.iter().map(|metric| metric.name.clone()).collect(),
            description,
            schema,
            imports,
            exports,
            size: bytes.len(),
            pre,
            validator,
            sandbox: self.clone(),
        }))
    }

    /// The compiled component: from the cache where the MAC fits, else from the compiler, which keeps it there.
    async fn component(&self, digest: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        if let Some(artifact) = self.inner.cache.as_ref().and_then(|cache| cache.get(digest))
            && let Ok(component) = self.deserialize(&artifact)
        {
            return Ok(component);
        }
        // One at a time: a compilation may take a gigabyte.
        let mut refused = self.inner.refused.lock().await;
        if let Some(error) = refused.get(digest) {
            return Err(error.clone());
        }
        let settings = &self.inner.settings;
        let compiling =
            settings.compiler.compile(&self.inner.engine, bytes.to_vec(), settings.compile_budget);
        let artifact = match compiling.await {
            Ok(artifact) => artifact,
            Err(error) => {
                if !matches!(error, LoadError::Compiler(_)) && refused.len() < REFUSED {
                    refused.insert(digest.to_owned(), error.clone());
                }
                return Err(error);
            }
        };
        let component =
            self.deserialize(&artifact).map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        if let Some(cache) = &self.inner.cache
            && let Err(error) = cache.put(digest, &artifact)
        {
            tracing::warn!(%error, "a compiled plugin could not be kept and will be compiled again");
        }
        Ok(component)
    }

    fn deserialize(&self, artifact: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: machine code is run as it stands here, so it must come from our own compiler. It does: either straight from the
        // compiler of this process or its child, which got these bytes through a pipe, or from a file whose MAC over component,
        // engine and code was made with a key that only this agent's user can read.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(&self.inner.engine, artifact)
        }
    }
}

/// How many refused components are remembered, so that a bad one is not compiled again at every attempt.
pub(crate) const REFUSED: usize = 1024;

/// Bytes of a component that the operator permits by its digest.
const LARGEST: usize = 64 << 20;

/// A large component needs the operator's word: it takes a compiler, a cache and memory as no other does.
fn permit(size: usize, digest: &str, settings: &Settings) -> Result<(), LoadError> {
    let digest = format!("sha256:{digest}");
    match size <= settings.max_component_bytes || settings.large.contains(&digest) {
        true => Ok(()),
        false => Err(LoadError::Large { size, max: settings.max_component_bytes, digest }),
    }
}

/// What can be seen without a compiler.
fn look(bytes: &[u8], max: usize) -> Result<(), LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    if bytes.len() > max {
        return Err(LoadError::TooLarge { size: bytes.len(), max });
    }
    // Magic number, version, layer: 1 is a component, 0 a core module.
    match (bytes.get(..4), bytes.get(4..6), bytes.get(6..8)) {
        (Some(b"\0asm"), Some(_), Some([1, 0])) => Ok(()),
        (Some(b"\0asm"), Some(_), Some([0, 0])) => Err(LoadError::CoreModule),
        _ => Err(LoadError::NotWasm),
    }
}

fn imports(component: &Component) -> Vec<String> {
    let kind = component.component_type();
    kind.imports(component.engine()).map(|(name, _)| name.to_owned()).collect()
}

fn exports(component: &Component) -> Vec<String> {
    let kind = component.component_type();
    kind.exports(component.engine())
        .filter(|(_, item)| {
            matches!(item.ty, ComponentItem::ComponentInstance(_) | ComponentItem::ComponentFunc(_))
        })
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The name without its version.
fn unversioned(name: &str) -> &str {
    name.split('@').next().unwrap_or_default()
}

fn refuse_imports(imports: &[String]) -> Result<(), LoadError> {
    let given = |name: &str| OWN.contains(&name) || wasi::INTERFACES.contains(&name);
    let foreign: Vec<_> = imports.iter().filter(|name| !given(unversioned(name))).cloned().collect();
    if foreign.is_empty() { Ok(()) } else { Err(LoadError::Import(foreign)) }
}

fn refuse_exports(exports: &[String]) -> Result<(), LoadError> {
    let Some(found) = exports.iter().find(|name| unversioned(name) == CHECKER) else {
        return Err(LoadError::World);
    };
    let version = found.split_once('@').map(|(_, version)| version).unwrap_or_default();
    if version.starts_with(CONTRACT) { Ok(()) } else { Err(LoadError::Version { found: found.clone() }) }
}

/// A mismatch of types in words: what of which interface, and what is wrong with it.
fn mismatch(error: &wasmtime::Error) -> String {
    let links: Vec<String> = error.chain().map(ToString::to_string).collect();
    // The last link is the reason, whose names are types.
    let outer = links.len().saturating_sub(1);
    let named: Vec<&str> = links.iter().take(outer).filter_map(|link| link.split('`').nth(1)).collect();
    let what = match named.as_slice() {
        [] => return links.join(": "),
        [interface] => (*interface).to_owned(),
        [interface, inner @ ..] => format!("{} of {interface}", inner.join(".")),
    };
    let reason = links.last().map_or("", String::as_str);
    match reason.ends_with("is missing") {
        true => format!(
            "it has {what}, which contract {CONTRACT}x of this agent does not; build it against an older contract, or run it with a newer agent"
        ),
        false => format!(
            "{what} is another one than in contract {CONTRACT}x ({reason}); build it against the WIT of a released contract, unchanged"
        ),
    }
}

/// Where the optional `validate` lies.
fn validator(
    component: &Component,
    exports: &[String],
) -> Result<Option<wasmtime::component::ComponentExportIndex>, LoadError> {
    let Some(name) = exports.iter().find(|name| unversioned(name) == VALIDATOR) else { return Ok(None) };
    let interface = component.get_export_index(None, name);
    let function = interface.and_then(|interface| component.get_export_index(Some(&interface), "validate"));
    function.map(Some).ok_or_else(|| LoadError::Contract(format!("{name} has no function \"validate\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(imports: &[&str], expected: &str) {
        let imports: Vec<_> = imports.iter().map(ToString::to_string).collect();
        assert!(refuse_imports(&imports).unwrap_err().to_string().contains(expected));
    }

    #[test]
    fn a_foreign_import_is_named() {
        check(
            &["picket:net/tcp@0.1.0", "wasi:http/incoming-handler@0.2.3", "wasi:keyvalue/store@0.2.0"],
            "asks for wasi:http/incoming-handler@0.2.3 and wasi:keyvalue/store@0.2.0, which this agent does not give",
        );
        check(&["picket:net/raw@0.1.0"], "picket:net/raw");
    }

    #[test]
    fn only_contract_0_1_is_spoken() {
        let exports = |name: &str| refuse_exports(&[name.to_owned()]);
        assert_eq!(exports("picket:check/checker@0.1.7"), Ok(()));
        assert!(matches!(exports("picket:check/checker@0.2.0"), Err(LoadError::Version { .. })));
        assert_eq!(exports("wasi:cli/run@0.2.3"), Err(LoadError::World));
    }

    #[test]
    fn a_large_component_is_permitted_by_its_digest_alone() {
        let settings = |large: &[&str]| Settings {
            max_component_bytes: 8,
            large: large.iter().map(ToString::to_string).collect(),
            ..Settings::default()
        };
        assert_eq!(permit(8, "ab", &settings(&[])), Ok(()));
        assert_eq!(permit(9, "ab", &settings(&["sha256:ab"])), Ok(()));
        let error = permit(9, "ab", &settings(&["sha256:abc"])).unwrap_err();
        assert!(error.to_string().ends_with("--large-plugin sha256:ab"), "{error}");
    }

    #[test]
    fn what_is_no_component_is_told_so_before_it_is_compiled() {
        assert_eq!(look(b"", 8), Err(LoadError::Empty));
        assert_eq!(look(b"\x7fELF....", 8), Err(LoadError::NotWasm));
        assert_eq!(look(b"\0as", 8), Err(LoadError::NotWasm));
        assert_eq!(look(b"\0asm\x01\0\0\0", 8), Err(LoadError::CoreModule));
        assert_eq!(look(b"\0asm\x0d\0\x01\0", 8), Ok(()));
        assert_eq!(look(&[0; 9], 8), Err(LoadError::TooLarge { size: 9, max: 8 }));
    }
}
