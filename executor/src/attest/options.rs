//! Which attestations a build makes: `--attest`, `--provenance` and `--sbom`.
//!
//! Responsible for what buildx's users write. Must not make anything. Invariant: what is not
//! honoured is refused by name.

use std::borrow::Cow;

use crate::error::{Error, Kind, Result};
use crate::output::options::split;

/// The attestations that are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How the image was made.
    pub provenance: Option<ProvenanceOptions>,
    /// Which packages it has: the name of the file beside files.
    pub sbom: Option<String>,
}

/// How much a provenance tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What was taken from elsewhere, and how long it took.
    Min,
    /// Arguments, the Dockerfile, all steps and their layers, too.
    Max,
}

/// The options of a provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenanceOptions {
    /// How much it tells.
    pub mode: Mode,
    /// Who built, if it is said (`builder-id`).
    pub builder_id: Option<String>,
    /// Whether it says that the result can be reproduced.
    pub reproducible: bool,
    /// Whether it goes with images only.
    pub inline_only: bool,
    /// Name of the file that it becomes beside files.
    pub file: String,
}

impl Default for ProvenanceOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Min,
            builder_id: None,
            reproducible: false,
            inline_only: false,
            file: "provenance.json".to_owned(),
        }
    }
}

impl Wanted {
    /// Tells whether there are any.
    pub fn any(&self) -> bool {
        self.provenance.is_some() || self.sbom.is_some()
    }
}

fn usage(text: impl Into<Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

/// Returns what `--provenance` or `--sbom` means as a value of `--attest`.
pub fn canonical(kind: &str, text: &str) -> String {
    match truth(text) {
        Some(wanted) => format!("type={kind},disabled={}", !wanted),
        None => format!("type={kind},{text}"),
    }
}

/// Reads values of `--attest`, each of another type.
///
/// # Errors
/// [`Kind::Usage`], naming what is not understood or not supported.
pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    let mut known = Vec::new();
    for text in texts {
        let mut fields = Fields::new(text)?;
        let kind = fields
            .take("type")
            .ok_or_else(|| usage(format!("attestation without a type: `{text}`")).hint(TYPES))?;
        if known.contains(&kind) {
            return Err(usage(format!("duplicate attestation field {kind}"))
                .hint("say all about it in one option"));
        }
        let disabled = fields.flag("disabled")?.unwrap_or(false);
        match kind.as_str() {
            "provenance" => {
                let options = provenance(&mut fields)?;
                wanted.provenance = Some(options).filter(|_| !disabled);
            }
            "sbom" => {
                let file = sbom(&mut fields)?;
                wanted.sbom = Some(file).filter(|_| !disabled);
            }
            other => {
                return Err(usage(format!("unknown attestation type `{other}`")).hint(TYPES));
            }
        }
        fields.finish(&kind)?;
        known.push(kind);
    }
    Ok(wanted)
}

const TYPES: &str = "types are provenance and sbom";

fn provenance(fields: &mut Fields<'_>) -> Result<ProvenanceOptions> {
    let mut options = ProvenanceOptions::default();
    match fields.take("mode").as_deref() {
        None | Some("min") => {}
        Some("max") => options.mode = Mode::Max,
        Some(other) => {
            return Err(
                usage(format!("mode=`{other}` of a provenance")).hint("modes are min and max")
            );
        }
    }
    match fields.take("version").as_deref() {
        None | Some("v1") => {}
        Some(other) => {
            return Err(
                usage(format!("version={other} of a provenance is not made"))
                    .hint("leave it out: version=v1 is the one there is"),
            );
        }
    }
    options.builder_id = fields.take("builder-id").filter(|id| !id.is_empty());
    options.reproducible = fields.flag("reproducible")?.unwrap_or(false);
    options.inline_only = fields.flag("inline-only")?.unwrap_or(false);
    if let Some(name) = fields.take("filename") {
        options.file = file_name(name)?;
    }
    Ok(options)
}

fn sbom(fields: &mut Fields<'_>) -> Result<String> {
    if let Some(generator) = fields.take("generator") {
        return Err(
            usage(format!("the SBOM generator `{generator}` is not run"))
                .hint("leave it out: packages are found without one"),
        );
    }
    match fields.take("filename") {
        Some(name) => file_name(name),
        None => Ok("sbom.spdx.json".to_owned()),
    }
}

/// Checks the name of a file beside files.
fn file_name(name: String) -> Result<String> {
    if name.is_empty() || name.contains(['/', '\0']) || matches!(name.as_str(), "." | "..") {
        return Err(usage(format!(
            "filename=`{name}` is not the name of a file"
        )));
    }
    Ok(name)
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Some(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The fields not yet understood.
struct Fields<'a> {
    fields: Vec<(String, String)>,
    text: &'a str,
}

impl<'a> Fields<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for field in split(text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| {
                usage(format!("invalid attestation field `{field}` in `{text}`"))
                    .hint("fields are written key=value")
            })?;
            let key = key.trim().to_ascii_lowercase();
            if fields.iter().any(|(known, _)| *known == key) {
                return Err(usage(format!("attestation field `{key}` is given twice")));
            }
            fields.push((key, value.to_owned()));
        }
        Ok(Self { fields, text })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.fields.iter().position(|(known, _)| known == key)?;
        Some(self.fields.remove(at).1)
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.take(key)
            .map(|text| {
                truth(&text)
                    .ok_or_else(|| usage(format!("`{key}={text}` is neither true nor false")))
            })
            .transpose()
    }

    fn finish(self, kind: &str) -> Result<()> {
        match self.fields.first() {
            Some((key, _)) => Err(usage(format!(
                "unknown field `{key}` for attestation type={kind} in `{}`",
                self.text
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_forms() {
        let of = |text: &str| parse([canonical("provenance", text).as_str()]).expect(text);
        let plain = Some(ProvenanceOptions::default());
        for text in ["true", "1", "mode=min", "version=v1", "inline-only=false"] {
            assert_eq!(of(text).provenance, plain, "{text}");
        }
        for text in ["false", "0", "mode=max,disabled=true"] {
            assert_eq!(of(text), Wanted::default(), "{text}");
        }
        let most = "mode=max,\"builder-id=https://a,b\",reproducible=1,inline-only=true,filename=p";
        assert_eq!(
            of(most).provenance,
            Some(ProvenanceOptions {
                mode: Mode::Max,
                builder_id: Some("https://a,b".into()),
                reproducible: true,
                inline_only: true,
                file: "p".into(),
            })
        );
    }

    #[test]
    fn an_sbom_has_a_name() {
        let of = |text: &str| parse([canonical("sbom", text).as_str()]).expect(text).sbom;
        assert_eq!(of("true").as_deref(), Some("sbom.spdx.json"));
        assert_eq!(of("filename=x").as_deref(), Some("x"));
        assert_eq!(of("false"), None);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (texts, wanted) in [
            (&["mode=max"][..], "without a type"),
            (&["type=x"], "`x`"),
            (&["type=provenance,mode=most"], "`most`"),
            (&["type=provenance,version=v0.2"], "version=v0.2"),
            (&["type=provenance,x=y"], "`x`"),
            (&["type=sbom,generator=some/image"], "`some/image`"),
            (&["type=sbom,mode=min"], "`mode`"),
            (&["type=provenance,reproducible=so"], "`reproducible=so`"),
            (&["type=provenance,disabled"], "`disabled`"),
            (&["type=provenance,mode=min,mode=max"], "given twice"),
            (&["type=provenance,filename=a/b"], "`a/b`"),
            (
                &["type=provenance", "type=provenance,disabled=true"],
                "duplicate attestation field provenance",
            ),
        ] {
            let error = parse(texts.iter().copied()).expect_err(wanted);
            assert_eq!(error.get_kind(), Kind::Usage);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
