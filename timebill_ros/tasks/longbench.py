# Copyright 2026 timebill_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""How LongBench asks: the prompt templates, longest answers and scores that it publishes, by the name of the dataset.

Source: config/dataset2prompt.json, config/dataset2maxlen.json and metrics.py of github.com/THUDM/LongBench (MIT,
Copyright (c) 2023 THU-KEG & Zhipu AI; arXiv 2308.14508). Those of its datasets are here that are in English and whose
score is one of tasks/text_scores.py. Others need a template and a metric from the user.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(r'\{(context|input)\}')


@dataclass(frozen=True)
class Template:
    """How a row with `context` and `input` becomes a task.

    `text`: the prompt, with {context} and {input} where these go. `metric`: a name in text_scores.SCORERS.
    `max_new_tokens`: the longest answer. `first_line`: only the answer's first line counts, because the examples in the
    prompt make a model go on with another one.
    """

    text: str
    metric: str
    max_new_tokens: int
    first_line: bool = False

    def prompt(self, context: str, question: str) -> str:
        """Return the prompt. Braces in `context` and `question` stay as they are."""
        values = {'context': context, 'input': question}
        return _FIELD.sub(lambda found: values[found[1]], self.text)


_PHRASE = 'as concisely as you can, using a single phrase if possible. Do not provide any explanation.'
_CONCISELY = ('as concisely as you can, using a single phrase or sentence if possible. If the question cannot be '
              'answered based on the information in the article, write "unanswerable". If the question is a yes/no '
              'question, answer "yes", "no", or "unanswerable". Do not provide any explanation.')
_PASSAGES = ('Answer the question based on the given passages. Only give me the answer and do not output any other '
             'words.')

TEMPLATES = {
    'narrativeqa': Template('You are given a story, which can be either a novel or a movie script, and a question. '
                            f'Answer the question {_PHRASE}\n\nStory: {{context}}\n\nNow, answer the question based '
                            f'on the story {_PHRASE}\n\nQuestion: {{input}}\n\nAnswer:', 'f1', 128),
    'qasper': Template(f'You are given a scientific article and a question. Answer the question {_CONCISELY}\n\n'
                       f'Article: {{context}}\n\n Answer the question based on the above article {_CONCISELY}\n\n'
                       'Question: {input}\n\nAnswer:', 'f1', 128),
    'multifieldqa_en': Template('Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following '
                                'question based on the above text, only give me the answer and do not output any other '
                                'words.\n\nQuestion: {input}\nAnswer:', 'f1', 64),
    **{name: Template(f'{_PASSAGES}\n\nThe following are given passages.\n{{context}}\n\n{_PASSAGES}\n\n'
                      'Question: {input}\nAnswer:', 'f1', 32) for name in ('hotpotqa', '2wikimqa', 'musique')},
    'gov_report': Template('You are given a report by a government agency. Write a one-page summary of the report.\n\n'
                           'Report:\n{context}\n\nNow, write a one-page summary of the report.\n\nSummary:',
                           'rouge_l', 512),
    'qmsum': Template('You are given a meeting transcript and a query containing a question or instruction. Answer the '
                      'query in one or more sentences.\n\nTranscript:\n{context}\n\nNow, answer the query based on the '
                      'above meeting transcript in one or more sentences.\n\nQuery: {input}\nAnswer:', 'rouge_l', 512),
    'multi_news': Template('You are given several news passages. Write a one-page summary of all news. \n\nNews:\n'
                           '{context}\n\nNow, write a one-page summary of all the news.\n\nSummary:', 'rouge_l', 512),
    'trec': Template('Please determine the type of the question below. Here are some examples of questions.\n\n'
                     '{context}\n{input}', 'choice', 64, first_line=True),
    'triviaqa': Template('Answer the question based on the given passage. Only give me the answer and do not output '
                         'any other words. The following are some examples.\n\n{context}\n\n{input}', 'f1', 32,
                         first_line=True),
    'samsum': Template('Summarize the dialogue into a few short sentences. The following are some examples.\n\n'
                       '{context}\n\n{input}', 'rouge_l', 128, first_line=True),
}
