use bson::{Document, doc};

use crate::extract::{Need, Needs};

/// Which documents the cursor asks the server to add to its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DocumentModes {
    pub(crate) full_document: FullDocumentMode,
    pub(crate) pre_image: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FullDocumentMode {
    /// Only what inserts and replaces carry anyway.
    #[default]
    None,
    /// The document as it is when the server looks it up.
    UpdateLookup,
    /// The document as it is when [`Lookup`](super::Lookup) does.
    Lookup,
    /// The recorded post-image.
    PostImage,
}

impl DocumentModes {
    /// What serves `needs` where no collection is known to record images.
    pub(crate) fn of(needs: Needs) -> Self {
        Self {
            full_document: match needs.full_document {
                Need::No => FullDocumentMode::None,
                Need::Optional | Need::Required => FullDocumentMode::UpdateLookup,
            },
            pre_image: needs.pre_image != Need::No,
        }
    }

    /// The same, where [`Lookup`](super::Lookup) does what the server would.
    pub(crate) fn looked_up_here(mut self) -> Self {
        if self.full_document == FullDocumentMode::UpdateLookup {
            self.full_document = FullDocumentMode::Lookup;
        }
        self
    }

    /// The `$changeStream` stage that starts now.
    pub(crate) fn stage(self) -> Document {
        let mut options = Document::new();
        match self.full_document {
            FullDocumentMode::None | FullDocumentMode::Lookup => {}
            FullDocumentMode::UpdateLookup => {
                options.insert("fullDocument", "updateLookup");
            }
            FullDocumentMode::PostImage => {
                options.insert("fullDocument", "whenAvailable");
            }
        }
        if self.pre_image {
            options.insert("fullDocumentBeforeChange", "whenAvailable");
        }
        doc! { "$changeStream": options }
    }
}
