//! Values that several flags have.

/// The last second that RFC 3339 and the image's config can say, with the offset of any time zone: 9999-12-30T22:00:00Z.
pub(crate) const LATEST_TIME: u64 = 253_402_207_200;

/// The words that Go's flag package takes, which buildah's users are used to.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}
