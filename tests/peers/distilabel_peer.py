"""distilabel over an Ollama: URL, pages (JSON lines of text). Prints the pages a second of its pipeline alone."""

import json
import sys
import time

from distilabel.models import OllamaLLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

PROMPT = 'Find the mentions. Answer with JSON alone: {"mentions": [{"label": "", "text": "", "before": ""}]}.'

if __name__ == "__main__":
    url, pages = sys.argv[1], [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
    with Pipeline(name="bench") as pipeline:
        rows = [{"instruction": f"Page:\n~~~\n{page}\n~~~"} for page in pages]
        load = LoadDataFromDicts(data=rows, batch_size=50)
        llm = OllamaLLM(model="stand-in", host=url, generation_kwargs={"options": {"num_ctx": 8192}})
        load >> TextGeneration(llm=llm, system_prompt=PROMPT, input_batch_size=50)
    begun = time.monotonic()
    made = pipeline.run(use_cache=False)
    took = time.monotonic() - begun
    answers = [row["generation"] for row in made["default"]["train"]]
    done = sum(1 for answer in answers if answer and "mentions" in json.loads(answer))
    assert done == len(pages), f"{done} of {len(pages)} pages"
    print(f"PAGES/S {len(pages) / took}")
