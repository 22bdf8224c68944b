use std::collections::BTreeSet;

use crate::filter::Selection;

/// What the cursor watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Collection {
        database: String,
        collection: String,
    },
    Database(String),
    /// Several databases of the deployment.
    Deployment(Vec<String>),
}

impl Scope {
    /// The narrowest scope that covers all of `selections`.
    pub(crate) fn covering(selections: &[Selection], default_database: &str) -> Self {
        let databases: BTreeSet<_> = selections
            .iter()
            .map(|selection| selection.database.as_deref().unwrap_or(default_database))
            .collect();
        let collections: BTreeSet<_> = selections
            .iter()
            .flat_map(|selection| &selection.collections)
            .collect();
        let of_every_collection = selections
            .iter()
            .any(|selection| selection.collections.is_empty());
        match (
            Vec::from_iter(databases).as_slice(),
            Vec::from_iter(collections).as_slice(),
        ) {
            ([database], [collection]) if !of_every_collection => Self::Collection {
                database: (*database).to_owned(),
                collection: (*collection).clone(),
            },
            ([database], _) => Self::Database((*database).to_owned()),
            (databases, _) => {
                Self::Deployment(databases.iter().map(|&name| name.to_owned()).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(database: Option<&str>, collections: &[&str]) -> Selection {
        Selection {
            database: database.map(str::to_owned),
            collections: collections.iter().map(|name| name.to_string()).collect(),
            ..Selection::default()
        }
    }

    #[test]
    fn the_narrowest_scope_is_chosen() {
        let covering = |selections: &[Selection]| Scope::covering(selections, "shop");
        let orders = selection(None, &["orders"]);
        assert_eq!(
            covering(&[orders.clone(), orders.clone()]),
            Scope::Collection {
                database: "shop".into(),
                collection: "orders".into()
            }
        );
        assert_eq!(
            covering(&[orders.clone(), selection(Some("shop"), &["products"])]),
            Scope::Database("shop".into())
        );
        assert_eq!(
            covering(&[orders.clone(), selection(None, &[])]),
            Scope::Database("shop".into())
        );
        assert_eq!(
            covering(&[orders, selection(Some("crm"), &["orders"])]),
            Scope::Deployment(vec!["crm".into(), "shop".into()])
        );
    }
}
