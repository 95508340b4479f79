"""The inspector: a page that shows what happens in the emulator, answers questions, cancels runs
and switches faults; and its endpoints, which programs on this machine may call too.

| to find | look in |
|---|---|
| the page | `page.html`, `page` |
| the endpoints, and who may call them | `routes`, `access` |
| faults on and off | `faults_api` |
| answers and cancellation | `actions` |
| the data of the page, live | `live`, `views`, `shown_runs`, `masks` |
"""
