//! What a payload is, by its content type.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Json,
    Text,
    Other,
}

impl Content {
    /// By the media type; `None` where the text is none (RFC 2045, "Syntax of the Content-Type Header Field").
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next()?.trim().to_ascii_lowercase();
        let (main, sub) = essence.split_once('/')?;
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_of_a_token);
        (is_token(main) && is_token(sub)).then(|| match sub.rsplit('+').next() {
            Some("json") => Self::Json,
            Some("xml") => Self::Text,
            _ if main == "text" => Self::Text,
            _ => Self::Other,
        })
    }
}

fn is_of_a_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_or_text_is_told_by_the_media_type() {
        for (content, content_types) in [
            (
                Content::Json,
                [
                    "application/json",
                    "Application/JSON ; charset=utf-8",
                    "text/json",
                    "application/vnd.shop.order+json;v=1",
                ],
            ),
            (
                Content::Text,
                [
                    "text/plain",
                    "text/csv;header=present",
                    "application/xml",
                    "image/svg+xml",
                ],
            ),
            (
                Content::Other,
                [
                    "application/octet-stream",
                    "application/jsonp",
                    "application/json+zip",
                    "image/png",
                ],
            ),
        ] {
            for content_type in content_types {
                assert_eq!(Content::of(content_type), Some(content), "{content_type}");
            }
        }
    }

    #[test]
    fn what_has_no_type_and_subtype_is_no_media_type() {
        for text in [
            "",
            "json",
            "/json",
            "text/",
            "text/a b",
            "text/pl\u{e4}in",
            "a/b/c",
        ] {
            assert_eq!(Content::of(text), None, "{text}");
        }
    }
}
