use changestream_core::Error;
use percent_encoding::percent_decode_str;

/// A URL in its parts. Its text appears in no error: it may hold a secret.
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    /// What lies between the scheme and the path: hosts, and a login where there is one.
    pub(super) authority: &'a str,
    pub(super) path: String,
    query: Vec<(String, String)>,
}

impl<'a> Url<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Error> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            Error::configuration("its URL has no scheme; write it whole, as `https://host/path`")
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = percent_decode_str(path).decode_utf8();
        let path = path.map_err(|_| Error::configuration("the path of its URL is no UTF-8"))?;
        Ok(Self {
            scheme,
            authority,
            path: path.into_owned(),
            query: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        })
    }

    /// Scheme and authority.
    pub(super) fn base(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// The values of a parameter, which is then dealt with.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        let taken = self.query.extract_if(.., |(key, _)| key == name);
        taken.map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be there once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Error> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Error::configuration(format!(
                "its URL has `{name}` more than once"
            ))),
        }
    }

    /// The value of a parameter that must be there.
    pub(super) fn need(&mut self, name: &str) -> Result<String, Error> {
        let value = self.take(name)?;
        value.ok_or_else(|| {
            Error::configuration(format!(
                "its URL lacks `{name}`; add `{name}=..` behind the `?`"
            ))
        })
    }

    /// What was not taken.
    pub(super) fn rest(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.query)
    }

    /// That all that there is was taken.
    pub(super) fn finish(&self) -> Result<(), Error> {
        match self.query.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::configuration(format!(
                "its URL has `{name}`, which says nothing there; remove it"
            ))),
        }
    }
}
