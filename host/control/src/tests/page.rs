//! What people with a browser are promised.

use super::*;

fn browser() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn log_in(plane: &Plane) -> String {
    let form = format!("token={}", plane.admin);
    let request = browser().post(format!("{}/login", plane.url)).body(form);
    let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(&plane.admin));
    cookie.split(';').next().unwrap().to_owned()
}

async fn show(plane: &Plane, path: &str, cookie: &str) -> (StatusCode, String) {
    let answer = browser().get(format!("{}{path}", plane.url)).header("cookie", cookie).send().await.unwrap();
    let policy = answer.headers().get("content-security-policy").cloned();
    assert!(policy.unwrap().to_str().unwrap().starts_with("default-src 'none'"));
    (answer.status(), answer.text().await.unwrap())
}

#[tokio::test]
async fn the_page_shows_agents_and_monitors_to_whoever_logged_in() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.apply(json!([shop()])).await;
    let id = plane.get("/v1/monitors/shop").await["id"].as_str().unwrap().to_owned();
    let device = plane.agent("edge-1").await;
    device.results(vec![record(&id, 1, 1, "down", Timestamp::from_millis(START_MS + 59_000))]).await;

    plane.pass(Duration::from_secs(2));
    let (_, form) = show(&plane, "/", "").await;
    assert!(form.contains("Admin token") && !form.contains("edge-1"));
    let cookie = log_in(&plane).await;
    let (status, page) = show(&plane, "/", &cookie).await;
    assert_eq!(status, StatusCode::OK);
    for part in ["edge-1", "shop", "state down", "last hour: 1 min down", "&lt;b&gt;fine&lt;/b&gt;"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(!page.contains("<b>fine"), "what comes from outside is escaped");
    let (status, page) = show(&plane, "/monitors/shop", &cookie).await;
    assert_eq!(status, StatusCode::OK);
    for part in [
        "First byte",
        "1.0",
        "12 ms",
        "Last 30 days",
        "0.00 % of 2 s known, 0 s unknown; down 2 s",
        "buffered: heard later",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(show(&plane, "/monitors/none", &cookie).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wrong_token_does_not_log_in_and_a_link_with_the_token_is_left_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let request = browser().post(format!("{}/login", plane.url)).body("token=wrong");
    let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers().get("set-cookie").is_none());
    let link = format!("{}/?token={}", plane.url, plane.admin);
    let answer = browser().get(link).send().await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/".parse().unwrap())
    );
    assert_eq!(show(&plane, "/monitors/shop", "picket-session=forged").await.0, StatusCode::SEE_OTHER);
}
