//! Bytes as pairs of hexadecimal digits.

use schemars::{Schema, json_schema};

/// Pairs of hexadecimal digits, spaces between them ignored.
pub(crate) fn decode(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        hex.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair.get(1)?).ok()).collect()
}

pub(crate) fn not_hex(found: &str) -> String {
    format!("`{found}` is not hexadecimal: write pairs of digits as in \"0d 0a\"")
}

pub(crate) fn hex_schema() -> Schema {
    json_schema!({
        "type": "object",
        "properties": { "hex": {
            "type": "string",
            "pattern": "^ *([0-9a-fA-F] *[0-9a-fA-F] *)*$",
            "description": "Bytes as pairs of hexadecimal digits; spaces are ignored.",
        } },
        "required": ["hex"],
        "additionalProperties": false,
    })
}
