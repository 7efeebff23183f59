"""langextract over an Ollama: URL, pages (JSON lines of text). Prints the pages a second of its extraction alone."""

import json
import sys
import time

import langextract as lx

EXAMPLE = lx.data.ExampleData(
    text="IMO No.: 9074729, Flag State: Panama",
    extractions=[
        lx.data.Extraction(extraction_class="IMO", extraction_text="9074729"),
        lx.data.Extraction(extraction_class="FLAG", extraction_text="Panama"),
    ],
)

if __name__ == "__main__":
    url, pages = sys.argv[1], [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
    config = lx.factory.ModelConfig(
        model_id="stand-in", provider="OllamaLanguageModel", provider_kwargs={"model_url": url}
    )
    documents = [lx.data.Document(text=page, document_id=str(number)) for number, page in enumerate(pages)]
    begun = time.monotonic()
    made = lx.extract(
        documents,
        prompt_description="Find the mentions of vessels.",
        examples=[EXAMPLE],
        config=config,
        max_char_buffer=8000,
        batch_length=64,
        max_workers=16,
        use_schema_constraints=False,
        fence_output=False,
        show_progress=False,
    )
    made = list(made)
    took = time.monotonic() - begun
    assert len(made) == len(pages), f"{len(made)} of {len(pages)} pages"
    assert any(document.extractions for document in made), "nothing was extracted"
    print(f"PAGES/S {len(pages) / took}")
