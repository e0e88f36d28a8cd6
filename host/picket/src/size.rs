//! Sizes as people write them: "512MiB", "64 KiB", "1073741824".

/// Bytes of a size: a whole number, and B, KiB, MiB, GiB or nothing after it.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number = number.parse::<u64>().map_err(|_| EXPECTED.to_owned())?;
    number.checked_mul(factor).ok_or_else(|| EXPECTED.to_owned())
}

const EXPECTED: &str = "expected a size such as 512MiB: a whole number with B, KiB, MiB or GiB";

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_size_is_a_whole_number_with_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("17B", 17), ("64 KiB", 65_536), ("512MiB", 536_870_912), ("1GiB", 1 << 30)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MiB", "1.5GiB", "-1", "512MB", "1 TiB", "99999999999999999999", "99999999999GiB"] {
            assert!(parse(wrong).unwrap_err().contains("512MiB"), "{wrong}");
        }
    }
}
