mod local;
mod model;
mod requests;
mod resets;
mod scene;
