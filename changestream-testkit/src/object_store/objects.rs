use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use mongodb::bson::DateTime;

use super::Request;

/// What is stored, by key.
#[derive(Debug, Default)]
pub(super) struct Objects {
    stored: BTreeMap<String, Object>,
    last_version: i64,
}

#[derive(Debug)]
struct Object {
    /// The millisecond in which it was written, or the next that no object has: readers go by the newest object.
    version: i64,
    body: Vec<u8>,
}

/// An answer of HTTP/1.1.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: i64,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

impl Objects {
    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        match &*request.method {
            "GET" if request.key.is_empty() => self.list(request),
            "GET" | "HEAD" => self.get(request),
            "PUT" => self.put(request),
            "POST" if request.query.contains_key("delete") => self.delete_all(request),
            "DELETE" => {
                self.stored.remove(&request.key);
                Answer::status(204)
            }
            _ => Answer::status(501),
        }
    }

    fn get(&self, request: &Request) -> Answer {
        let Some(object) = self.stored.get(&request.key) else {
            return Answer::status(404);
        };
        if request.condition("if-none-match") == Some(&object.version.to_string()) {
            return Answer::status(304);
        }
        Answer {
            status: 200,
            version: object.version,
            body: object.body.clone(),
        }
    }

    fn put(&mut self, request: &Request) -> Answer {
        let there = self.stored.get(&request.key);
        let there = there.map(|object| object.version.to_string());
        let wanted = request.condition("if-match");
        let unwanted = request.condition("if-none-match").is_some();
        if wanted.is_some() && wanted != there.as_deref() || unwanted && there.is_some() {
            return Answer::status(412);
        }
        let version = DateTime::now()
            .timestamp_millis()
            .max(self.last_version + 1);
        self.last_version = version;
        let body = request.body.clone();
        let object = Object { version, body };
        self.stored.insert(request.key.clone(), object);
        Answer {
            version,
            ..Answer::status(200)
        }
    }

    /// Deletes what the XML of the body names.
    fn delete_all(&mut self, request: &Request) -> Answer {
        let body = String::from_utf8_lossy(&request.body);
        for key in body.split("<Key>").skip(1) {
            let key = key.split("</Key>").next().unwrap_or_default();
            self.stored.remove(key);
        }
        Answer {
            body: b"<DeleteResult></DeleteResult>".to_vec(),
            ..Answer::status(200)
        }
    }

    fn list(&self, request: &Request) -> Answer {
        let asked = |name| request.query.get(name).map_or("", String::as_str);
        let (prefix, delimiter) = (asked("prefix"), asked("delimiter"));
        let (mut contents, mut folders) = (String::new(), BTreeSet::new());
        for (key, object) in self.stored.range(prefix.to_owned()..) {
            let Some(rest) = key.strip_prefix(prefix) else {
                break;
            };
            match rest.split_once(delimiter) {
                Some((folder, _)) if !delimiter.is_empty() => {
                    folders.insert(format!("{prefix}{folder}{delimiter}"));
                }
                _ => {
                    let Object { version, body } = object;
                    let written = DateTime::from_millis(*version);
                    let written = written.try_to_rfc3339_string().unwrap_or_default();
                    // Writing to a string does not fail.
                    let _ = write!(
                        contents,
                        "<Contents><Key>{key}</Key><Size>{}</Size><ETag>\"{version}\"</ETag>\
                         <LastModified>{written}</LastModified></Contents>",
                        body.len()
                    );
                }
            }
        }
        let folder = |name| format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>");
        let folders: String = folders.into_iter().map(folder).collect();
        Answer {
            body: format!("<ListBucketResult>{contents}{folders}</ListBucketResult>").into_bytes(),
            ..Answer::status(200)
        }
    }
}
