"""Django, in one file: uvicorn examples.frameworks.django_app:app"""

import os

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the example",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["newswire.integrations.django.ProblemMiddleware"],
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402

from newswire import Hub, last_event_id  # noqa: E402
from newswire.integrations.django import stream  # noqa: E402

hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))


@csrf_exempt
async def events(request: HttpRequest, channel: str) -> HttpResponseBase:
    if request.method == "POST":
        return JsonResponse({"id": await hub.publish(channel, request.body)})
    return await stream(request, hub.subscribe(channel, after=last_event_id(request)))


urlpatterns = [path("events/<str:channel>", events)]
app = get_asgi_application()
