mod console;
mod entropy;
mod queue;
mod traffic;
mod transport;
