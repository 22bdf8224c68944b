//! A service whose user loses its rights waits until it has them back, and goes on without a restart.

use changestream_testkit::MongoServer;
use mongodb::{
    Client,
    bson::{Document, doc},
};

use crate::support::{Scene, Seen, Started, TestResult, client, interrupted, ready, recorder};

/// A server, and a user of it who may use one database.
struct Service {
    scene: Scene<MongoServer>,
    user: Client,
}

impl Service {
    async fn new() -> Result<Self, crate::support::BoxError> {
        let server = MongoServer::builder().authorized().start().await?;
        let admin = server.uri();
        let scene = Scene::on(server, &admin).await;
        let user = scene
            .server
            .uri()
            .replace("admin:admin@", "service:secret@");
        let service = Self {
            user: client(&user).await,
            scene,
        };
        service.create_user().await?;
        Ok(service)
    }

    async fn create_user(&self) -> TestResult {
        self.admin(doc! { "createUser": "service", "pwd": "secret", "roles": [self.role()] })
            .await
    }

    fn role(&self) -> Document {
        doc! { "role": "readWrite", "db": self.scene.database.name() }
    }

    async fn admin(&self, command: Document) -> TestResult {
        let admin = self.scene.client.database("admin");
        admin.run_command(command).await?;
        Ok(())
    }

    /// Runs while `lose` takes the user's rights and `restore` gives them back.
    async fn outlives(
        &self,
        lose: Document,
        restore: impl AsyncFnOnce(&Self) -> TestResult,
    ) -> TestResult {
        let scene = &self.scene;
        let seen = Seen::default();
        let builder = scene.runtime_through(&self.user, &seen);
        let runtime = Started::new(builder.handlers([recorder(&["orders"])]));
        scene.insert(0..5).await?;
        seen.count(5).await;
        let before = scene.checkpoint().await;
        self.admin(lose).await?;
        let reason = interrupted(&runtime.health).await;
        assert!(
            !reason.contains("not authorized on"),
            "it quotes the command: {reason}"
        );
        scene.insert(5..10).await?;
        restore(self).await?;
        ready(&runtime.health).await;
        seen.all(0..10).await;
        scene.insert([10]).await?;
        seen.all([10]).await;
        assert_eq!(seen.ids(), (0..11).collect::<Vec<_>>());
        runtime.stop().await?;
        assert_ne!(scene.checkpoint().await, before);
        Ok(())
    }
}

#[tokio::test]
async fn a_role_that_is_revoked_and_granted_costs_no_event() -> TestResult {
    let service = Service::new().await?;
    let roles = [service.role()];
    let revoke = doc! { "revokeRolesFromUser": "service", "roles": &roles[..] };
    let grant = doc! { "grantRolesToUser": "service", "roles": &roles[..] };
    service
        .outlives(revoke, async |service| service.admin(grant).await)
        .await
}

#[tokio::test]
async fn a_user_who_is_dropped_and_made_anew_costs_no_event() -> TestResult {
    let service = Service::new().await?;
    let drop = doc! { "dropUser": "service" };
    service.outlives(drop, Service::create_user).await
}
