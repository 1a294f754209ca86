// Shows the document that the page names. A file of its own: the page's policy lets no script stand in it.
SwaggerUIBundle({
  url: document.querySelector('#docs').dataset.document,
  dom_id: '#docs',
  layout: 'BaseLayout',
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // nothing is asked elsewhere
});
