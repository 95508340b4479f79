"""The inspector: a page that shows what happens in the emulator, answers, cancels, and has faults
switched; and the endpoints behind it, which programs of this machine may call too.

| to find | look in |
|---|---|
| the page | `page.html`, `page` |
| the endpoints, and who may call them | `routes`, `access` |
| faults on and off | `faults_api` |
| answers and cancellation | `actions` |
| what the page is told, live | `live`, `views`, `shown_runs`, `masks` |
"""
