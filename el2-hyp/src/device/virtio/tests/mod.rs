mod console;
mod entropy;
mod moves;
mod queue;
mod traffic;
mod transport;
