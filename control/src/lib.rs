pub mod argilla;
