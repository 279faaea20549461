//! `RUN --device`: from words to requests for devices.
//!
//! Responsible for the value's fields, with variables expanded. Must not know which devices there are.

use super::copy::Lookup;
use super::step::DeviceRequest;
use super::steps::Lowering;
use crate::diagnostics::Diagnostic;
use crate::dockerfile::suggest;
use crate::dockerfile::text::Text;

impl Lowering<'_> {
    /// Makes the requests of a RUN.
    pub(super) fn devices(&mut self, written: &[Text]) -> Lookup<Vec<DeviceRequest>> {
        written.iter().map(|text| self.device(text)).collect()
    }

    fn device(&mut self, text: &Text) -> Lookup<DeviceRequest> {
        let value = self.expand(text)?;
        let wrong = |what: String| Diagnostic::error(text.span(), what);
        let mut request = DeviceRequest {
            span: text.span(),
            name: String::new(),
            required: false,
        };
        for field in value.split(',').map(str::trim) {
            match field.split_once('=') {
                None if field.eq_ignore_ascii_case("required") => request.required = true,
                Some((key, flag)) if key.eq_ignore_ascii_case("required") => {
                    request.required = match flag {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => {
                            let message = format!("`required` can't be `{flag}`");
                            return Err(wrong(message).hint("it is true or false"));
                        }
                    };
                }
                Some((key, name)) if key.eq_ignore_ascii_case("name") => {
                    request.name = name.to_owned();
                }
                // `vendor/class=device` has such a sign, too.
                Some((key, _)) if !request.name.is_empty() || !key.contains('/') => {
                    let error = wrong(format!("unknown key `{key}` of `--device`"));
                    return Err(match suggest::hint(key, ["name", "required"]) {
                        Some(hint) => error.hint(hint),
                        None => error.hint("the keys are: name, required"),
                    });
                }
                _ if request.name.is_empty() => request.name = field.to_owned(),
                None | Some(_) => {
                    return Err(wrong(format!("unknown key `{field}` of `--device`")));
                }
            }
        }
        if request.name.is_empty() {
            return Err(wrong("`--device` names no device".into())
                .hint("it is vendor/class=device, and `,required` where it must be there"));
        }
        Ok(request)
    }
}
