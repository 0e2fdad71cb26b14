// Starts the page.

const service = new Service(new StatusView());
new TryPanel(service);
service.poll();
